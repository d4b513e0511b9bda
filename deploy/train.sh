#!/bin/sh
# One training as a job: data by DVC from a folder, the results of the run into another. In Vertex AI both are buckets.
#
#   deploy/train.sh REMOTE MODELS NAME [ARGUMENTS OF `lesion train`]
set -eu
[ $# -ge 3 ] || { echo "usage: train.sh REMOTE MODELS NAME [ARGUMENTS]" >&2; exit 2; }
remote=$1 models=$2 name=$3
shift 3
kept=$models/runs/$name
[ ! -e "$kept" ] || { echo "error: $kept exists already" >&2; exit 2; } # before hours are spent

# A folder of its own: the job's is read-only, and DVC writes beside what it reads.
here=$(CDPATH='' cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
cp "$here/dvc.yaml" "$here/dvc.lock" "$work"
cp -R "$here/configs" "$work"
cd "$work"

dvc init --quiet --no-scm
dvc remote add --quiet --default data "$remote"
dvc pull --quiet download prepare

lesion train "$@" "name=$name"
lesion eval --model "runs/$name" --split test

# The model under its digest, as the registry keeps it; the rest of the run beside it.
digest=$(sha256sum "runs/$name/model.onnx" | cut -d ' ' -f 1)
mkdir -p "$models/models" "$models/runs"
cp "runs/$name/model.onnx" "$models/models/$digest.onnx"
cp -R "runs/$name" "$kept"
echo "$digest"
