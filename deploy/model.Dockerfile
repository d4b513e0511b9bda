# The image that serves, with its model: docker build --build-arg SERVE=IMAGE -f deploy/model.Dockerfile FOLDER
ARG SERVE
FROM ${SERVE}
COPY model.onnx /model/model.onnx
