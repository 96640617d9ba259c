# MLflow's tracking server with a driver for PostgreSQL; settings come from the environment, see compose.yaml.
ARG BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
WORKDIR /build
COPY docker/mlflow.txt ./
RUN python -m venv /opt/mlflow \
    && /opt/mlflow/bin/pip install --no-cache-dir --only-binary :all: --require-hashes -r mlflow.txt \
    && /opt/mlflow/bin/pip uninstall --yes --quiet setuptools pip

FROM ${BASE_IMAGE}
ENV PATH=/opt/mlflow/bin:$PATH \
    DO_NOT_TRACK=true \
    HOME=/tmp \
    MLFLOW_DISABLE_TELEMETRY=true \
    PYTHONDONTWRITEBYTECODE=1
COPY --from=build /opt/mlflow /opt/mlflow
RUN install -d -o 10001 -g 10001 /var/lib/mlflow
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["mlflow", "server", "--artifacts-destination", "/var/lib/mlflow"]
CMD ["--host", "0.0.0.0", "--port", "5000", "--workers", "2"]
