"""The programs of a measurement: the upstream, nginx, the gateway. Each is pinned to its cores, listens on loopback on
a port that was free, and ends with this process whatever happens to it."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

HOST = "127.0.0.1"
DEADLINE = 20


class Failed(Exception):
    """Something is not as a measurement needs it: told without a traceback."""


class TlsPort(int):
    """A port on which TLS is spoken."""


def free_port():
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def url_of(port):
    return f"http{'s' if isinstance(port, TlsPort) else ''}://{HOST}:{port}"


def wait_for(what, condition):
    end = time.monotonic() + DEADLINE
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {DEADLINE} s")
        time.sleep(0.002)


def accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def ahead(command, session=("setsid",)):
    """With CARDEA_BENCH_NICE=-15, say, the scheduler prefers it to what else runs on the machine. That takes root, and
    a session of its own, because the scheduler weighs whole sessions first."""
    nice = os.environ.get("CARDEA_BENCH_NICE")
    if not nice:
        return command
    script = f"echo {int(nice)} >/proc/self/autogroup; exec nice -n {int(nice)} \"$@\""
    return [*session, "sh", "-c", script, "sh", *command]


def pinned(cores, command):
    """Dies with us even when we are killed, which no clean-up of ours would see."""
    return ["setpriv", "--pdeathsig", "TERM", *ahead(["taskset", "-c", cores, *map(str, command)])]


def descendants(pid):
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            found += [int(child), *descendants(int(child))]
    return found


def run_time_ns(pid):
    """Of all threads, as the scheduler counts it; those that ended are lost, and ours end with their process."""
    total = 0
    for task in Path(f"/proc/{pid}/task").glob("*"):
        total += int((task / "schedstat").read_text().split()[0])
    return total


def memory_kb(pid):
    """{Rss, Anonymous, ...} in KiB"""
    values = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        values[name] = int(value.split()[0])
    return values


class Peers:
    """Owns the folder and the processes of one run."""

    def __init__(self, build):
        self.build = build
        self.folder = Path(tempfile.mkdtemp(prefix="cardea-bench-"))
        self.processes = []

    def __enter__(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.interrupted)
        return self

    def interrupted(self, number, _frame):
        raise SystemExit(128 + number)

    def __exit__(self, *_):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for process in reversed(self.processes):
            self.stop(process)
        subprocess.run(["rm", "-rf", "--", str(self.folder)], check=False)

    def certificate(self):
        """The files of a self-signed certificate with a P-256 key, and of its key: for whoever speaks TLS."""
        files = self.folder / "cert.pem", self.folder / "cert.key"
        if not files[0].exists():
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                            "-days", "2", "-subj", "/CN=bench", "-addext", f"subjectAltName=IP:{HOST}",
                            "-out", files[0], "-keyout", files[1]], check=True, stderr=subprocess.DEVNULL)
        return files

    def start(self, name, cores, command, **more):
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(pinned(cores, command), stdin=more.pop("stdin", subprocess.DEVNULL), stderr=log,
                                       stdout=more.pop("stdout", log), **more)
        process.name = name
        self.processes.append(process)
        return process

    def stop(self, process):
        if process.stdin is not None:
            process.stdin.close()
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdout is not None:
            process.stdout.close()
        if process in self.processes:
            self.processes.remove(process)

    def log_of(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]

    def listening(self, process, port):
        def ready():
            if process.poll() is not None:
                raise Failed(f"{process.name} ended: {self.log_of(process.name)}")
            return accepts(port)
        wait_for(f"{process.name} listens", ready)

    def start_upstream(self, name, cores, *options):
        """The port of a tiny_http."""
        process = self.start(name, cores, [self.build / "test/hostile/tiny_http", "--until-eof", "--sizes", *options],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        line = process.stdout.readline()
        if not line:
            raise Failed(f"{name} ended: {self.log_of(name)}")
        return int(line)


class Nginx:
    """A plain proxy with one worker, several times for each upstream: with nginx's own buffers; with so many that 1 MB
    does not go through a file; passing on what it has read without gathering it; and with TLS, its buffers own or large."""

    BUFFERS = {
        "default": "",
        "large": "proxy_buffer_size 16k; proxy_buffers 8 256k; proxy_busy_buffers_size 512k; ",
        "none": "proxy_buffering off; proxy_buffer_size 64k; proxy_buffers 8 64k; ",
    }
    CONFIG = """\
daemon off;
worker_processes 1;
{user}pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    keepalive_timeout 300s;
    keepalive_requests 1000000000;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
{servers}}}
"""
    UPSTREAM = "    upstream {name} {{ server {host}:{upstream}; keepalive 64; keepalive_requests 1000000000; }}\n"
    SERVER = "    server {{ listen {host}:{port}{tls}; {buffers}location / {{ proxy_pass http://{name}; }} }}\n"

    def __init__(self, peers, binary, cores, upstreams):
        folder = peers.folder / "nginx"
        folder.mkdir()
        self.ports, servers = {}, ""
        for name, upstream in upstreams.items():
            servers += self.UPSTREAM.format(name=name, host=HOST, upstream=upstream)
            for kind, buffers in self.BUFFERS.items():
                for tls, port in (("", free_port()), (" ssl", TlsPort(free_port()))):
                    self.ports[name, kind, tls != ""] = port
                    servers += self.SERVER.format(name=name, host=HOST, port=port, buffers=buffers, tls=tls)
        # Started by root, workers would be of a user that cannot open our folder.
        user = "user root;\n" if os.geteuid() == 0 else ""
        certificate, key = peers.certificate()
        self.config = self.CONFIG.format(servers=servers, user=user, certificate=certificate, key=key)
        (folder / "nginx.conf").write_text(self.config)
        process = peers.start("nginx", cores, [binary, "-p", folder, "-e", "stderr", "-c", folder / "nginx.conf"])
        peers.listening(process, port)
        self.pids = wait_for("nginx's worker", lambda: descendants(process.pid))

    def run_time_ns(self):
        return sum(map(run_time_ns, self.pids))


class Gateway:
    """A cardea of its own data directory. `audit`: the mode of its trail; None: there is none. `ahead_of`: what its command
    begins with."""

    def __init__(self, peers, binary, name, cores, servers, workers=1, more="", tls=False, edit=True, audit=None, ahead_of=()):
        self.peers, self.binary, self.name = peers, Path(binary).resolve(), name
        self.folder = peers.folder / name
        self.folder.mkdir()
        self.port = TlsPort(free_port()) if tls else free_port()
        if tls:
            certificate, key = peers.certificate()
            servers = f'[server.tls]\ncertificate = "{certificate}"\nkey = "{key}"\n{servers}'
        trail = f"mode = \"{audit}\"" if audit else "enabled = false"
        self.config = (f"[server]\nworkers = {workers}\n{more}[security]\nedit_mode = {str(edit).lower()}\n[audit]\n{trail}\n"
                       f"{servers}")
        (self.folder / "cardea.toml").write_text(self.config)
        self.process = peers.start(name, cores, [
            *ahead_of, self.binary, "serve", "--config", self.folder / "cardea.toml", "--data-dir", self.folder / "data",
            "--listen-address", f"{HOST}:{self.port}", "--admin-listen", "off", "--log", "warn"])
        peers.listening(self.process, self.port)
        self.token = (self.folder / "data" / "token").read_text().strip()

    def own_processes(self):
        """The gateway and its spawner, not the servers that it started."""
        found = [self.process.pid]
        for pid in descendants(self.process.pid):
            try:
                if Path(os.readlink(f"/proc/{pid}/exe")) == self.binary:
                    found.append(pid)
            except OSError:
                continue
        return found

    def run_time_ns(self):
        return sum(map(run_time_ns, self.own_processes()))

    def memory_kb(self):
        """Of the gateway and of its spawner: the second has little that is not the first's too."""
        all_of_them = [memory_kb(pid) for pid in self.own_processes()]
        return {"anonymous": sum(one["Anonymous"] for one in all_of_them), "rss": all_of_them[0]["Rss"]}

    def stop(self):
        self.peers.stop(self.process)
