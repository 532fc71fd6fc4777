# A static binary and nothing else. `make image` builds it.
FROM docker.io/library/rust:1.95-slim-trixie AS build
# aws-lc is C and assembler.
RUN apt-get update && apt-get install -y --no-install-recommends cmake gcc libc6-dev make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
# The workspace names the tests' harness and targets, which the image has no use for.
COPY tests tests
# Naming the target keeps the flag away from build scripts and macros, which cannot be static.
RUN target="$(rustc -vV | sed -n 's/^host: //p')" \
 && RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --bin tagout --target "$target" \
 && cp "target/$target/release/tagout" /tagout

FROM scratch
COPY --from=build /tagout /tagout
# Nobody, as the chart says too.
USER 65532:65532
ENTRYPOINT ["/tagout"]
CMD ["serve"]
LABEL org.opencontainers.image.title="tagout" \
      org.opencontainers.image.description="Lets nothing that production depends on be destroyed until a person has signed for it" \
      org.opencontainers.image.licenses="Apache-2.0"
