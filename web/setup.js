/*
 * The page behind the set-up link. The link's code is in its fragment, which browsers send to nobody; it is taken out of
 * the address at once, so that it is not in the history either, and goes into one body alone.
 */
"use strict";

const LEAST = 12;
const code = location.hash.slice(1);
history.replaceState(null, "", location.pathname);

const place = document.getElementById("place");

/** Puts a template's content into the page. */
function show(name) {
    place.replaceChildren(document.getElementById(name).content.cloneNode(true));
    place.querySelector("h2")?.focus();
}

async function ask(method, path, body, headers = {}) {
    const answer = await fetch(path, {
        method,
        headers: body === undefined ? headers : { "Content-Type": "application/json", ...headers },
        body: body === undefined ? undefined : JSON.stringify(body),
        credentials: "same-origin",
        cache: "no-store",
        redirect: "error",
        referrerPolicy: "no-referrer",
    });
    const text = await answer.text();
    return { status: answer.status, body: text === "" ? {} : JSON.parse(text) };
}

const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${text.endsWith(".") ? "" : "."}`;

/** What a problem document says, in words. */
function wordsOf({ detail, cure, title }) {
    const parts = [String(detail ?? title ?? "something failed").replace(/^password: /, "")];
    if (cure) parts.push(String(cure));
    return parts.map(sentence).join(" ");
}

/** What is wrong before anybody is asked: [field, words], or nothing. */
function mistakeIn(name, password, again) {
    if (!/^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$/.test(name))
        return ["name", "The name has 1 to 64 letters, digits and _ - . @, and begins with a letter or a digit."];
    if (Array.from(password).length < LEAST) return ["password", `The password needs at least ${LEAST} characters.`];
    if (password !== again) return ["again", "The two passwords are not the same."];
    return undefined;
}

function setUp() {
    show("form");
    const form = place.querySelector("form");
    const problem = form.querySelector("#problem");
    const button = form.querySelector("button");
    const [name, password, again] = ["name", "password", "again"].map((id) => form.querySelector(`#${id}`));
    const fields = { name, password, again };
    let isBusy = false;

    const setBusy = (is) => {
        isBusy = is;
        button.setAttribute("aria-disabled", String(is));
        button.textContent = is ? "Making the account…" : "Make the account";
    };
    const tell = (field, words) => {
        for (const each of Object.values(fields)) each.removeAttribute("aria-invalid");
        problem.textContent = words;
        problem.hidden = words === "";
        if (words === "") return;
        fields[field]?.setAttribute("aria-invalid", "true");
        (fields[field] ?? problem).focus();
    };

    form.querySelector("#show").addEventListener("change", (event) => {
        for (const each of [password, again]) each.type = event.target.checked ? "text" : "password";
    });
    form.addEventListener("submit", async (event) => {
        event.preventDefault();
        if (isBusy) return;
        const who = name.value.trim();
        const mistake = mistakeIn(who, password.value, again.value);
        if (mistake !== undefined) return tell(...mistake);
        tell("", "");
        setBusy(true);
        try {
            const { status, body } = await ask("POST", "/api/v1/setup", { code, name: who, password: password.value });
            if (status === 409 && body.type === "urn:cardea:problem:set-up") return show("taken");
            if (status !== 200) return tell(body.type === "urn:cardea:problem:password" ? "password" : "", wordsOf(body));
            show("done");
            place.querySelector("#who").textContent = who;
            place.querySelector(".who").textContent = who;
            // There is nothing here yet that the session is for.
            await ask("POST", "/api/v1/logout", undefined, { "X-CSRF-Token": body.csrf_token }).catch(() => undefined);
        } catch {
            tell("", "The gateway did not answer. Is it still running? Then try again.");
        } finally {
            setBusy(false);
        }
    });
    name.focus();
}

async function begin() {
    try {
        const { status, body } = await ask("GET", "/api/v1/setup");
        if (status !== 200) show("silent");
        else if (!body.is_needed) show("taken");
        else if (!/^[\w-]{43}$/.test(code)) show("lost");
        else setUp();
    } catch {
        show("silent");
    }
}

// Another link in the address bar, which is the same document to the browser.
addEventListener("hashchange", () => location.reload());
begin();
