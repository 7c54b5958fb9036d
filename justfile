# What is typed often. `just` alone lists it.

_list:
    @just --list --unsorted

# Tell the whole story, each step checked
demo:
    cargo run --release -- demo

# Run an allocator and relays to try things with; state in ./holdfast-dev
up *ARGS:
    cargo run --release -- up {{ARGS}}

# Run the tests; names pick some
test *ARGS:
    cargo test --workspace {{ARGS}}

# Format, then complain
lint:
    cargo fmt
    cargo clippy --workspace --all-targets -- -D warnings
    .ci/directions

# Check licences, sources and doubled crates of the dependencies
deny:
    cargo deny check bans licenses sources

# Everything that must hold before a change lands
ci:
    .ci/run
