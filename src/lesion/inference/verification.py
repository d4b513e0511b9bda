"""Everything that can be checked about a model file without data, and what it says it is."""

from pathlib import Path

from lesion.artifact import Artifact
from lesion.errors import ArtifactError
from lesion.exports import VerifyReport
from lesion.inference.threads import usable_cpus
from lesion.inference.trial import try_out
from lesion.manifest import FORMAT
from lesion.signature import Signer

OPERATORS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")  # sets that an export or onnxruntime's quantizer uses


def verify(path: Path, signer: Signer | None = None) -> VerifyReport:
    """Check seal, manifest, signature, external data, operators and answers of the file at `path`.

    The model answers in a process of its own, so that a hostile one is given up after some minutes at most. Raises what
    `Predictor.load` does, CheckFailed for a model that crashes or hangs, and ArtifactError for operators that no export
    of lesion uses.
    """
    artifact = Artifact.read(path, signer)
    manifest, (version, operators) = artifact.manifest, artifact.read_versions()
    foreign = sorted(set(operators) - {*OPERATORS})
    if foreign:
        raise ArtifactError(
            f"{path} computes with operators of {', '.join(foreign)}, which no export of lesion uses",
            hint="export the model again",
        )
    difference = try_out(artifact, usable_cpus())
    quantization = manifest.provenance.get("quantization")
    return VerifyReport(
        model=str(path),
        name=artifact.identity,
        bytes=path.stat().st_size,
        sha256=artifact.digest,
        format=FORMAT,
        onnx=version,
        operators=operators,
        signature="none" if artifact.signature is None else "not checked" if signer is None else "valid",
        size=manifest.preprocess.size,
        labels=list(manifest.taxonomy.labels),
        malignant=list(manifest.taxonomy.malignant),
        threshold=manifest.threshold,
        temperature=manifest.temperature,
        self_test_difference=difference,
        self_test_tolerance=manifest.self_test.tolerance,
        quantization=quantization.get("recipe") if isinstance(quantization, dict) else None,
        provenance=manifest.provenance,
    )


def sign(path: Path, key: Path) -> VerifyReport:
    """Sign the model file at `path` with the private key at `key`, in place; a signature it has is replaced.

    It has to pass `verify` before. Raises what that does, ConfigError or NotFoundError for the key, and OutputError.
    """
    from lesion.files import write_atomic
    from lesion.signature import read_private

    private = read_private(key)
    verify(path)
    artifact = Artifact.read(path)
    write_atomic(path, Artifact.pack(artifact.graph, artifact.manifest, private.sign)[1])
    return verify(path)
