# The web page on a CPU:  docker build -t tnrd . && docker run -p 127.0.0.1:7860:7860 tnrd
#
# On Linux the plain torch brings gigabytes of CUDA. To save them, name an index of CPU builds:
#   docker build --build-arg TORCH_INDEX=... -t tnrd .
FROM python:3.11-slim
ARG TORCH_INDEX=
WORKDIR /srv/tnrd
COPY . .
RUN python -m pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -c constraints.txt ".[app]"
RUN useradd --create-home --uid 1000 visitor
USER visitor
# Compiles the kernels once, so that the first visitor does not wait for it.
RUN tnrd-denoise examples/camera_sigma25.png /tmp/warm.png && rm /tmp/warm.png
EXPOSE 7860
CMD ["tnrd-app", "--host", "0.0.0.0"]
