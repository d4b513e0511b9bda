# The training image with what a job needs: docker build --build-arg TRAIN=IMAGE -f deploy/train.Dockerfile FOLDER
ARG TRAIN
FROM ${TRAIN}
COPY . /job
ENTRYPOINT ["sh", "/job/train.sh"]
