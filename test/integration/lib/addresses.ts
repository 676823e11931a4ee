/*
 * What a stranger may write where a URL is expected, to have the gateway call this machine, its network or its cloud.
 * PORT is where a canary listens on loopback.
 */
export interface Form {
    url: string;
    /** a part of what the log says */
    says: RegExp;
}

/** The address is looked at when it is dialled, and the log names it, its kind and the cure. */
const dialled = (kind: string, ...hosts: string[]): Form[] =>
    hosts.map((host) => ({
        url: `https://${host}:PORT/keys`,
        says: new RegExp(`: \\S+ is ${kind}, which nobody configured: security\\.allow_networks opens networks`),
    }));

/** The URL is refused before anything is looked up; as a field's value perhaps for what bytes it has. */
const refused = (...urls: string[]): Form[] =>
    urls.map((url) => ({ url, says: /URL|https|host|port|user|a field value has a byte that is not allowed/ }));

const http = (...urls: string[]): Form[] => urls.map((url) => ({ url, says: /not https|has to be https; http is for loopback/ }));

const hosts = (...names: string[]): Form[] => refused(...names.map((name) => `https://${name}:PORT/keys`));

export const FORMS: readonly Form[] = [
    ...dialled("a loopback address", "127.0.0.1", "127.0.0.0", "127.1.2.3", "127.255.255.255", "localhost", "LocalHost"),
    ...dialled("a loopback address", "foo.localhost", "a.b.LOCALHOST", "[::1]", "[0:0:0:0:0:0:0:1]", "[::0.0.0.1]"),
    ...dialled("a loopback address", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:FFFF:7F00:0001]"),
    ...dialled("an unspecified address", "0.0.0.0", "0.0.0.1", "[::]", "[::ffff:0.0.0.0]"),
    ...dialled("a private address", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1", "[::ffff:10.0.0.1]"),
    ...dialled("a private address", "[fc00::1]", "[fd00:ec2::254]"),
    ...dialled("a link-local address", "169.254.169.254", "[::ffff:169.254.169.254]", "[fe80::1]", "[fe80::5efe:127.0.0.1]"),
    ...dialled("a carrier-grade NAT address", "100.64.0.1", "100.100.100.200"),
    ...dialled("a cloud's own address", "168.63.129.16"),
    ...dialled("an address of IETF protocols", "192.0.0.192", "[2001:1::1]"),
    ...dialled("a documentation address", "192.0.2.1", "198.51.100.1", "203.0.113.1", "[2001:db8::1]", "[3fff::1]"),
    ...dialled("a benchmarking address", "198.18.0.1"),
    ...dialled("a 6to4 relay's address", "192.88.99.1"),
    ...dialled("a multicast address", "224.0.0.1", "239.255.255.250", "[ff02::1]"),
    ...dialled("a reserved address", "240.0.0.1", "[4000::1]"),
    ...dialled("the broadcast address", "255.255.255.255"),
    ...dialled("an IPv4-compatible address", "[::127.0.0.1]", "[::7f00:1]"),
    ...dialled("an IPv4-translated address", "[::ffff:0:127.0.0.1]"),
    ...dialled("a NAT64 address", "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]"),
    ...dialled("a 6to4 address", "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]"),
    ...dialled("a Teredo address", "[2001:0:7f00:1::]"),
    ...dialled("an ISATAP address", "[2a00::5efe:127.0.0.1]", "[2a00::200:5efe:7f00:1]"),
    ...dialled("a site-local address", "[fec0::1]"),
    { url: "HTTPS://127.0.0.1:PORT/keys", says: /a loopback address/ },
    { url: "https://127.0.0.1:PORT/?@public.test/keys", says: /a loopback address/ },
    { url: "https://127.0.0.1:PORT", says: /a loopback address/ },
    // Numbers that some take for addresses.
    ...hosts("127.1", "127.0.1", "127", "0", "2130706433", "6425673729", "017700000001", "0177.0.0.1", "127.0.0.01"),
    ...hosts("0x7f.1", "0x7f000001", "0X7F.0X0.0X0.0X1", "127.0x1", "127.0.0.1.1", "127.0.0.256", "127.0.0.1.", "localhost."),
    // Brackets.
    ...hosts("[127.0.0.1]", "[::ffff:127.1]", "[::ffff:0177.0.0.1]", "[::1%lo]", "[::1%25lo]", "[fe80::1%251]", "[:::1]"),
    ...hosts("[0:0:0:0:0:0:0:0:1]", "[v1.127.0.0.1]", "[::1", "[::1].public.test", "::1"),
    // Letters that are none, and what is encoded.
    ...hosts("１２７.０.０.１", "127。0。0。1", "①②⑦.0.0.1", "ｌocalhost", "loc\u00adalhost"),
    ...hosts("%31%32%37.0.0.1", "127%2e0%2e0%2e1", "%6cocalhost", "localhost%00.public.test", "[%3a%3a1]"),
    // Who is the host?
    ...hosts("public.test@127.0.0.1", "public.test:443@127.0.0.1", "127.0.0.1@public.test", "@127.0.0.1"),
    ...hosts("public.test%40@127.0.0.1", "public.test\\@127.0.0.1", "127.0.0.1\\@public.test", "127.0.0.1\\.public.test"),
    ...hosts("127.0.0.1;public.test", "127.0.0.1,public.test", "127.0.0.1 ", "*"),
    ...refused("https://127.0.0.1:0/", "https://127.0.0.1:65536/", "https://127.0.0.1:0PORT/", "https://127.0.0.1:PORT:PORT/"),
    // Schemes, and their absence.
    ...http("http://127.0.0.1:PORT/keys", "http://localhost:PORT/keys", "HTTP://[::1]:PORT/keys", "http://8.8.8.8:PORT/"),
    ...refused("https:127.0.0.1:PORT/keys", "https:/127.0.0.1:PORT/keys", "https:///127.0.0.1:PORT/keys"),
    ...refused("https:\\\\127.0.0.1:PORT/keys", "//127.0.0.1:PORT/keys"),
    ...refused("ftp://127.0.0.1:PORT/keys", "ws://127.0.0.1:PORT/keys", "gopher://127.0.0.1:PORT/_GET"),
    ...refused("redis://127.0.0.1:PORT/", "file:///etc/passwd", "data:application/json,1", "jar:https://127.0.0.1:PORT/keys"),
];
