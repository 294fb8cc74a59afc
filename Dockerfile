# syntax=docker/dockerfile:1
# One binary in an image without a shell, run by a user without rights.

FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
ARG TARGETOS TARGETARCH VERSION=
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /out/twofold ./cmd/twofold \
    && mkdir /out/data

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/twofold /usr/local/bin/twofold
# The embedded online store, where no Redis is configured, is ./twofold-data: mount a volume here to keep it.
COPY --from=build --chown=65532:65532 /out/data /var/lib/twofold
WORKDIR /var/lib/twofold
USER 65532:65532
# gRPC; health, readiness and metrics over HTTP, of a server and of a syncer; gRPC of a syncer.
EXPOSE 7070 7071 7072 7073
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=6 CMD ["/usr/local/bin/twofold", "health"]
ENTRYPOINT ["/usr/local/bin/twofold"]
CMD ["serve"]
