# shellcheck shell=bash
# Builds the fuzz targets of tests/fuzz and runs them, as the user who owns the tree. Source it after build.sh.
#
# Everything that comes of it is in target/fuzz: the programs, what fuzzing begins with (seeds), new inputs that reach
# more (found), and inputs that a target fails on (failed).

: "${log:?source common.sh first}" "${root:?}"

fuzz_manifest=tests/fuzz/Cargo.toml
fuzz_corpus=tests/fuzz/corpus
fuzz_folder=target/fuzz
fuzz_triple=x86_64-unknown-linux-gnu

# What libFuzzer learns of a program: which edges are taken, and what is compared with what. The compiler of stable Rust
# has this as a pass of LLVM.
fuzz_flags="-Cpasses=sancov-module"
for fuzz_flag in level=4 inline-8bit-counters pc-table trace-compares; do
    fuzz_flags+=" -Cllvm-args=-sanitizer-coverage-$fuzz_flag"
done

# For libFuzzer. An input of that length holds several messages; the targets themselves bound what one allocates, and
# memory is bounded here only for what is allocated and never touched. Nothing takes seconds, however busy the machine is.
fuzz_options=(-max_len=4096 -rss_limit_mb=1024 -timeout=30 -print_final_stats=1)

# Executions of each target in ops/test, and where its random numbers begin. The same each time, so that a test that fails
# has found something in what changed; new ground is for ops/fuzz.
fuzz_runs=20000
fuzz_seed=1

fuzz_targets() {
    basename -s .rs "$root"/tests/fuzz/src/bin/*.rs
}

# fuzz_cargo LABEL COMMAND ARGUMENT...: cargo for the fuzz targets.
fuzz_cargo() {
    local label=$1 command=$2
    shift 2
    RUSTFLAGS=$fuzz_flags cargo_step "$label" "$command" --release --locked --manifest-path "$fuzz_manifest" \
        --target "$fuzz_triple" --target-dir "$fuzz_folder" "$@"
}

fuzz_build() {
    fuzz_cargo "Building the fuzz targets" build --bins --examples
    step "Writing what fuzzing begins with" fuzz_seeds
}

fuzz_seeds() {
    in_root rm -rf "$fuzz_folder/seeds" &&
        in_root "$fuzz_folder/$fuzz_triple/release/examples/seeds" "$fuzz_folder/seeds"
}

# fuzz_run TARGET FOUND OPTION...: runs a target from seeds and corpus; new inputs go to the folder FOUND.
fuzz_run() {
    local target=$1 found=$2 folders=("$2") folder
    shift 2
    for folder in "$fuzz_folder/seeds/$target" "$fuzz_corpus/$target"; do
        [ ! -d "$root/$folder" ] || folders+=("$folder")
    done
    in_root mkdir -p "$found" "$fuzz_folder/failed" &&
        in_root "$fuzz_folder/$fuzz_triple/release/$target" "${fuzz_options[@]}" \
            -artifact_prefix="$fuzz_folder/failed/$target-" "$@" "${folders[@]}"
}

# Runs each target for a moment and says how often.
fuzz_briefly() {
    local table=$root/$fuzz_folder/briefly.txt
    step "Fuzzing each parser for a moment" fuzz_each "$table"
    cat "$table" >&2
}

fuzz_each() {
    local table=$1 found=$fuzz_folder/found-briefly target said total=0 runs edges
    in_root rm -rf "$found" "$table" || return
    for target in $(fuzz_targets); do
        said=$(fuzz_run "$target" "$found/$target" -runs="$fuzz_runs" -seed="$fuzz_seed" 2>&1) || {
            printf '%s\n' "$said" "$target failed; run it on the input that is named above: ops/fuzz $target FILE"
            return 1
        }
        printf '%s\n' "$said"
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' <<<"$said")
        edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' <<<"$said" | tail -n 1)
        printf '  %-18s %7d executions %6d edges\n' "$target" "$runs" "$edges" | as_builder tee -a "$table"
        total=$((total + runs))
    done
    printf '  %-18s %7d executions\n' "all together" "$total" | as_builder tee -a "$table"
    in_root rm -rf "$found"
}

# The longest input that is kept in the tree, bytes, and the most for a target: they are read at each run, and by people.
fuzz_longest=512
fuzz_most=48

# Chooses anew among corpus and finds what takes edges that the seeds do not, the shortest first.
fuzz_keep() {
    local target=$1 chosen=$fuzz_folder/chosen/$1 program=$fuzz_folder/$fuzz_triple/release/$1 folders=() folder file
    for folder in "$fuzz_corpus/$target" "$fuzz_folder/found/$target"; do
        [ ! -d "$root/$folder" ] || folders+=("$folder")
    done
    in_root rm -rf "$chosen" && in_root mkdir -p "$fuzz_folder/chosen" "$fuzz_corpus/$target" &&
        in_root cp -r "$fuzz_folder/seeds/$target" "$chosen" &&
        in_root "$program" -merge=1 -use_counters=0 -max_len="$fuzz_longest" "$chosen" "${folders[@]}" &&
        in_root find "$fuzz_corpus/$target" -type f -delete || return
    # libFuzzer names what it chooses by its sha1; the seeds have numbers.
    find "$root/$chosen" -type f -name '????????????????????????????????????????' -printf '%s %p\n' | sort -n |
        head -n "$fuzz_most" | cut -d' ' -f2- |
        while IFS= read -r file; do
            in_root cp "$file" "$fuzz_corpus/$target/" || return
        done
}
