# shellcheck shell=bash
# Builds the simulation of tests/simulation and runs it, as the user who owns the tree. Source it after build.sh.

: "${log:?source common.sh first}" "${root:?}"

simulation_manifest=tests/simulation/Cargo.toml
simulation_folder=target/simulation

# Worlds that ops/test lives through, and worlds in which a fault that is put in has to be found.
simulation_seeds=200
simulation_mutant_seeds=1000

# simulation_cargo LABEL COMMAND ARGUMENT...: cargo for the simulation.
simulation_cargo() {
    local label=$1 command=$2
    shift 2
    cargo_step "$label" "$command" --release --locked --manifest-path "$simulation_manifest" \
        --target-dir "$simulation_folder" "$@"
}

simulate() {
    in_root "$simulation_folder/release/lucarne-simulation" "$@"
}

simulation_briefly() {
    simulate seeds --count "$simulation_seeds" && simulate mutants --seeds "$simulation_mutant_seeds"
}
