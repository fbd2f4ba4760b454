# dawnchorus on Beam's own image: for workers of Dataflow and of clusters whose workers are containers,
# and for the launcher of the flex template. All is installed here; nothing is fetched at start. Beam
# must have the version, and Python too, of the machine that sends the job.
ARG PYTHON=3.11
ARG BEAM=2.77.0
ARG LAUNCHER=python311-template-launcher-base

FROM gcr.io/dataflow-templates-base/${LAUNCHER} AS launcher

FROM apache/beam_python${PYTHON}_sdk:${BEAM}
ARG BEAM
# OpenVINO for --engine openvino; with GPUs: EXTRAS=dataflow CUDA="tensorflow[and-cuda]".
ARG EXTRAS=dataflow,openvino
ARG CUDA=
COPY . /tmp/dawnchorus
RUN pip install --no-cache-dir "/tmp/dawnchorus[${EXTRAS}]" "apache-beam[gcp]==${BEAM}" ${CUDA} \
    && pip check \
    && rm -r /tmp/dawnchorus

COPY --from=launcher /opt/google/dataflow/python_template_launcher \
    /opt/google/dataflow/python_template_launcher
WORKDIR /template
RUN echo 'import runpy; runpy.run_module("pipeline", run_name="__main__", alter_sys=True)' > launch.py
ENV FLEX_TEMPLATE_PYTHON_PY_FILE=/template/launch.py
# Without it, each start of a worker would make a virtual environment first.
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
ENTRYPOINT ["/opt/apache/beam/boot"]
