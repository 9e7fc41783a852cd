# shellcheck shell=bash
# Checks that the API is what its OpenAPI document says, with schemathesis, as the user who owns the tree. Source it after
# build.sh. What is installed for it is in target/contract, and nothing runs on when it has ended.

: "${log:?source common.sh first}" "${root:?}"

contract_folder=target/contract
contract_requirements=tests/contract/requirements.txt

# Installs schemathesis, if what it needs has changed since the last time.
contract_install() {
    local stamp=$root/$contract_folder/requirements.txt
    cmp -s "$root/$contract_requirements" "$stamp" && return 0
    step "Installing schemathesis" contract_environment
}

contract_environment() {
    in_root rm -rf "$contract_folder" &&
        in_root python3 -m venv "$contract_folder" &&
        in_root "$contract_folder/bin/pip" install --disable-pip-version-check --requirement "$contract_requirements" &&
        in_root cp "$contract_requirements" "$contract_folder/requirements.txt"
}

# Asks a broker with hosts that only pretend, and shows what came of it.
contract_check() {
    contract_install
    step "Checking the API against its document" contract_ask
    grep -E '^== As |^ *[0-9]+ generated|^=+ .* in [0-9.]+s =+$' "$root/$contract_folder/said.txt" >&2 || true
}

contract_ask() {
    in_root sh -c "PYTHONDONTWRITEBYTECODE=1 exec '$contract_folder/bin/python' tests/contract/run.py \
        target/release/lucarne broker/openapi.json --no-color >'$contract_folder/said.txt' 2>&1" ||
        { cat "$root/$contract_folder/said.txt" && return 1; }
}
