# Two images from one file:
#
#   docker build -t lesion .
#   docker run --read-only -p 8080:8080 -v "$PWD/model.onnx:/model/model.onnx:ro" lesion
#
#   docker build --target train -t lesion-train .
#   docker run --gpus all --shm-size 2g --user "$(id -u)" -v "$PWD:/workspace" lesion-train train --tier resnet

# One base for all stages: a virtual environment only works with the interpreter that it was made with. A tag moves on
# with security updates; who must have the same bytes again names a digest: --build-arg PYTHON=python:3.12-slim@sha256:…
ARG PYTHON=python:3.12-slim

FROM ${PYTHON} AS builder
# uv, because it compiles bytecode while it installs and checks the hashes of build tools, too.
# No cache: it would only fill the layer. No downloads: the interpreter must be that of the final stage.
ENV UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never
WORKDIR /build
COPY requirements/uv.txt requirements/
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements/uv.txt

# lesion itself as a wheel, in a stage of its own: a change of the sources must not install the dependencies again.
FROM builder AS wheel
COPY requirements/dev.txt requirements/
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY configs configs
RUN uv build --wheel --require-hashes --build-constraints requirements/dev.txt --out-dir /dist

FROM builder AS serve-venv
# shared.txt is for servers that share limits (Redis), a journal (PostgreSQL), models (gs://, s3://) or traces.
ARG LOCK=serve.txt
COPY requirements/${LOCK} requirements/
RUN uv venv /opt/lesion && uv pip sync -p /opt/lesion --require-hashes requirements/${LOCK}
COPY --from=wheel /dist /dist
RUN uv pip install -p /opt/lesion --no-deps --offline /dist/*.whl

FROM builder AS train-venv
COPY requirements/train.txt requirements/
# The build constraints are for the one dependency that has no wheel; they hash its build tools.
RUN uv venv /opt/lesion \
    && uv pip sync -p /opt/lesion --require-hashes --build-constraints requirements/train.txt requirements/train.txt
COPY --from=wheel /dist /dist
RUN uv pip install -p /opt/lesion --no-deps --offline /dist/*.whl

FROM ${PYTHON} AS train
COPY --from=train-venv /opt/lesion /opt/lesion
# A numeric user has neither a home nor a name, and libraries ask for both.
ENV PATH=/opt/lesion/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp LOGNAME=lesion
WORKDIR /workspace
USER 65532:65532
ENTRYPOINT ["lesion"]
CMD ["--help"]

# The last stage is the one that is built without --target.
FROM ${PYTHON} AS serve
COPY --from=serve-venv /opt/lesion /opt/lesion
# PORT is the one place for the port: `lesion serve` and the health check both read it.
# TMPDIR: uploads above 1 MB wait in a temporary file, and /dev/shm can be written even when the root is read-only. So
# do models that are fetched; to keep them over restarts, name a volume with XDG_CACHE_HOME.
ENV PATH=/opt/lesion/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 TMPDIR=/dev/shm XDG_CACHE_HOME=/dev/shm \
    PORT=8080
EXPOSE 8080
# A number, so that Kubernetes can see without /etc/passwd that this is not root.
USER 65532:65532
# http.client, because urllib would send the request to a configured proxy.
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s CMD ["python", "-I", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=3); c.request('GET', '/livez'); sys.exit(c.getresponse().status != 200)"]
# Exec form: signals reach the server, which then finishes what is in flight.
ENTRYPOINT ["lesion", "serve"]
CMD ["--env", "production", "--model", "/model/model.onnx"]
