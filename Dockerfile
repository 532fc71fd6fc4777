# A static binary and nothing else. `make image` builds it; `make e2e` tries its last stage on a real node.
FROM --platform=$BUILDPLATFORM docker.io/library/rust:1.95-slim-trixie AS build
ARG BUILDPLATFORM
ARG TARGETARCH
# aws-lc is C and assembler. The second compiler is for the architecture that this machine may not be of.
RUN apt-get update && apt-get install -y --no-install-recommends cmake gcc libc6-dev make \
 && case "$TARGETARCH/$(dpkg --print-architecture)" in \
      arm64/amd64) apt-get install -y --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross ;; \
      amd64/arm64) apt-get install -y --no-install-recommends gcc-x86-64-linux-gnu libc6-dev-amd64-cross ;; \
    esac \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# Before the sources, so that it is made once.
COPY deploy/tools deploy/tools
RUN cargo install --locked "cargo-auditable@$(sed -n 's/^cargo-auditable //p' deploy/tools)"
COPY Cargo.toml Cargo.lock ./
COPY src src
# The workspace names the tests' harness and targets, which the image has no use for.
COPY tests tests
COPY deploy/build-static deploy/build-static
ARG SOURCE_DATE_EPOCH=0
# `otel`, for traces; see docs/traces.md.
ARG FEATURES=
RUN deploy/build-static /

FROM scratch
ARG VERSION=dev
ARG REVISION=unknown
ARG SOURCE=https://tagout.dev
COPY --from=build /tagout /tagout
# Nobody, as the chart says too.
USER 65532:65532
ENTRYPOINT ["/tagout"]
CMD ["serve"]
LABEL org.opencontainers.image.title="tagout" \
      org.opencontainers.image.description="Lets nothing that production depends on be destroyed until a person has signed for it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
