"""Every knob: its type, default, unit and range, with a docstring below it.

docs/config.md is generated from this file.
"""

from dataclasses import dataclass, field

from lesion.config.knob import knob
from lesion.config.serving import ServeConfig

TIERS = ("baseline", "resnet", "efficientnet")


@dataclass
class DataConfig:
    """Which images, and how they are split."""

    root: str = knob("data/ham10000", path=True)
    """Folder with HAM10000_metadata.csv and HAM10000_images/."""
    processed: str | None = knob(None, path=True)
    """Folder for the split; null means processed/ inside root or, when root is read-only, here."""
    subsample: float = knob(1.0, above=0, at_most=1)
    """Share of the training lesions to use. Validation and test stay whole, so results stay comparable."""
    split_seed: int = knob(0, at_least=0)
    """Which random split; not the training seed, so that repeated trainings share one test set."""
    val: float = knob(0.15, above=0, at_most=0.5)
    """Share of the images for validation."""
    test: float = knob(0.15, above=0, at_most=0.5)
    """Share of the images for the test."""
    folds: int = knob(0, at_least=0, at_most=20)
    """0 for train, val and test; otherwise what is not test is dealt into this many folds (2 or more)."""
    val_fold: int | None = knob(0, at_least=0)
    """With folds: the one that validates; the others train. null: all train, what data.calibration kept validates."""
    calibration: float = knob(0.0, at_least=0, at_most=0.5)
    """With folds: share of the images that belongs to none of them, so that an ensemble of them can be calibrated."""
    near_duplicates: bool = True
    """Keep near-duplicate images of different lesions in one split."""
    balance: float = knob(0.0, at_least=0, at_most=1)
    """Draw training images by their class's share to this negative power: 0 is each once, 1 all classes alike."""
    malignant: list[str] = knob(["akiec", "bcc", "mel"])
    """The diagnoses that count as malignant."""
    workers: int = knob(4, at_least=0)
    """Threads that decode images into the cache; results do not depend on it."""
    memory_gb: float = knob(4.0, at_least=0)
    """A split of decoded images is kept in memory up to this many GB; above it the cache file is mapped."""


@dataclass
class PreprocessConfig:
    """The pixels that the network sees; exported with the model."""

    size: int = knob(224, at_least=32, at_most=1024)
    """Side of the square input, in pixels."""
    filter: str = knob("bilinear", choices=("bilinear", "bicubic", "lanczos"))
    """Resampling filter."""
    reduce: bool = True
    """Shrink an image of several times the size by a whole factor first, which takes half the time."""


@dataclass
class ModelConfig:
    """The network."""

    tier: str = knob("baseline", choices=TIERS)
    """baseline (1.3 M parameters), resnet (11.2 M) or efficientnet (4 M to 64 M)."""
    variant: str = knob("b0", choices=tuple(f"b{i}" for i in range(8)))
    """Which EfficientNet."""
    pretrained: bool = False
    """Start from ImageNet weights; resnet and efficientnet only."""
    weights: str | None = knob(None, path=True)
    """A file of torchvision weights, or a checkpoint of a run, to start from; the last layer starts anew."""
    lite: bool = False
    """EfficientNet with ReLU instead of SiLU and without squeeze-and-excitation, which int8 makes fast."""
    classes: str = knob("diagnosis", choices=("diagnosis", "malignancy"))
    """Train on the seven diagnoses, whose malignant probabilities are summed, or on the two classes directly."""
    dropout: float = knob(0.2, at_least=0, at_most=0.9)
    """Dropout before the last layer."""


@dataclass
class AugmentConfig:
    """Changes of training images; turns by 90° and mirror images are always on."""

    rotate: float = knob(180.0, at_least=0, at_most=180)
    """Largest free rotation, in degrees either way."""
    scale: float = knob(0.2, at_least=0, at_most=1)
    """Largest zoom: 0.2 makes a lesion up to 20 % larger or smaller."""
    brightness: float = knob(0.07, at_least=0, at_most=1)
    """Largest relative change of brightness."""
    contrast: float = knob(0.07, at_least=0, at_most=1)
    """Largest relative change of contrast."""
    colour: float = knob(0.02, at_least=0, at_most=1)
    """Largest relative change of each of red, green and blue."""
    constancy: float = knob(0.0, at_least=0, at_most=1)
    """Share of images whose light is made white (Shades of Gray)."""
    hair: float = knob(0.0, at_least=0, at_most=1)
    """Share of images with drawn hairs."""
    ruler: float = knob(0.0, at_least=0, at_most=1)
    """Share of images with the drawn ticks of a ruler."""
    corner: float = knob(0.0, at_least=0, at_most=1)
    """Share of images with drawn dark corners."""
    mixup: float = knob(0.0, at_least=0, at_most=1)
    """Share of images that are blended with another, target included."""
    cutmix: float = knob(0.0, at_least=0, at_most=1)
    """Share of images that get a patch of another, target included."""


@dataclass
class LossConfig:
    """The loss: cross-entropy, and how it treats what is rare or hard."""

    weighting: float = knob(0.0, at_least=0, at_most=1)
    """Weight of a class: its share to this negative power. 0 is none, 1 makes all classes count the same."""
    adjustment: float = knob(0.0, at_least=0, at_most=2)
    """So many times the logarithm of its share is added to the logit of a class, in training only."""
    focus: float = knob(0.0, at_least=0, at_most=5)
    """Focal loss: how much images that are already right count less."""
    smoothing: float = knob(0.0, at_least=0, at_most=0.5)
    """Label smoothing: the share of a target that is spread over all classes."""


@dataclass
class OptimConfig:
    """The optimiser: AdamW, linear warm-up, cosine decay."""

    lr: float = knob(1e-4, above=0, at_most=1)
    """Peak learning rate."""
    weight_decay: float = knob(0.01, at_least=0, at_most=1)
    """AdamW's weight decay."""
    warmup: float = knob(0.3, at_least=0, at_most=0.9)
    """Share of all steps over which the learning rate rises; 0.3 is a one-cycle schedule."""
    layer_decay: float = knob(1.0, above=0, at_most=1)
    """Each stage learns at this multiple of the rate of the next one, towards the head."""
    freeze: int = knob(0, at_least=0)
    """Epochs in which only the head learns."""
    ema: float = knob(0.0, at_least=0, at_most=0.99999)
    """Decay per step of the moving average of the weights that is validated and exported; 0 is none."""


@dataclass
class TrainerConfig:
    """The training loop."""

    epochs: int = knob(25, at_least=1)
    """Most epochs; early stopping may end sooner."""
    batch_size: int = knob(32, at_least=1)
    """Images per step and device."""
    patience: int = knob(7, at_least=1)
    """Epochs without a better validation loss before training stops."""
    accumulate: int = knob(1, at_least=1)
    """Steps whose gradients are added before the weights change."""
    max_minutes: float | None = knob(None, above=0)
    """Stop after this many minutes, at the end of a step; null means no limit."""
    precision: str = knob("auto", choices=("auto", "32-true", "16-mixed", "bf16-mixed"))
    """auto: bf16 where the hardware multiplies it, else fp16 on a GPU and fp32 elsewhere."""
    accelerator: str = knob("auto", choices=("auto", "cpu", "gpu", "cuda", "mps", "tpu"))
    """The kind of device."""
    devices: str = "auto"
    """How many devices, or which, as Lightning reads it: auto, 2, or 0,1."""
    strategy: str = "auto"
    """How several devices share the work; auto means DDP."""
    gradient_clip: float = knob(1.0, at_least=0)
    """Largest norm of the gradient; 0 switches clipping off."""


@dataclass
class EvalConfig:
    """The decision rule, fitted on validation and stored in the model file."""

    sensitivity: float = knob(0.95, above=0, at_most=1)
    """The operating point: the threshold is the highest with at least this sensitivity on validation."""
    confidence: float | None = knob(None, above=0.5, at_most=0.999)
    """How sure it must be, over lesions, that new ones reach this sensitivity; null: it is reached on validation."""
    coverage_malignant: float = knob(0.98, above=0.5, at_most=0.999)
    """Share of the malignant lesions whose conformal set holds "malignant": a benign answer below it is referred."""
    coverage_benign: float = knob(0.8, above=0.5, at_most=0.999)
    """Share of the benign lesions whose conformal set holds "benign": a malignant answer within it is referred."""
    coverage: float | None = knob(None, above=0.5, at_most=0.999)
    """One coverage for both classes, in place of the two above; null for none."""
    acceptance: float = knob(0.95, above=0.5, at_most=1)
    """Share of the validation images that pass the checks of quality and likeness; what does not is referred."""
    stress_images: int = knob(500, at_least=10)
    """Images, of as many lesions, that `lesion eval --stress` changes; fewer are quicker, their intervals wider."""


@dataclass
class ExportConfig:
    """The checks that a model file must pass."""

    parity_tolerance: float = knob(1e-4, above=0, at_most=0.1)
    """Largest allowed difference of a probability between torch and the file."""
    calibration_images: int = knob(256, at_least=8)
    """Training images that int8 ranges are measured on."""
    max_auroc_loss: float = knob(0.005, at_least=0, at_most=1)
    """Largest allowed loss of AUROC by int8: the upper end of its 95 % interval on validation must keep it."""
    max_specificity_loss: float = knob(0.02, at_least=0, at_most=1)
    """Largest allowed loss of mean specificity at sensitivities from 0.8 to 1 by int8: as max_auroc_loss."""
    max_sensitivity_loss: float = knob(0.01, at_least=0, at_most=1)
    """Largest loss of sensitivity by int8 at the specificity of fp32's operating point; what chance explains passes."""


@dataclass
class TrackingConfig:
    """Where runs are recorded besides their folder."""

    store: str | None = knob(None, path=True)
    """The store of all runs: a SQLite file, or postgresql://USER@HOST/DATABASE; null means runs.db in `runs`."""
    artifacts: str | None = knob(None, path=True)
    """Address, such as gs://BUCKET/models, that registered model files are put at; null keeps them beside the store."""
    wandb: str = knob("disabled", choices=("disabled", "offline", "online"))
    """Mirror metrics and the best model to Weights & Biases; without host or key, into the run's folder."""
    project: str = "lesion"
    """The W&B project."""


@dataclass
class Config:
    """The whole configuration of lesion."""

    seed: int = knob(0, at_least=0, at_most=2**31)
    """Seed of initial weights, order and augmentation."""
    runs: str = knob("runs", path=True)
    """Folder for run folders."""
    name: str | None = None
    """Name of the run's folder; null means date, time and tier. A folder that holds a run is never overwritten."""
    data: DataConfig = field(default_factory=DataConfig)
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


# What users of other tools type, to the key that means it here.
ALIASES = {
    "lr": "optim.lr",
    "learning_rate": "optim.lr",
    "optim.learning_rate": "optim.lr",
    "weight_decay": "optim.weight_decay",
    "epochs": "trainer.epochs",
    "max_epochs": "trainer.epochs",
    "trainer.max_epochs": "trainer.epochs",
    "batch_size": "trainer.batch_size",
    "data.batch_size": "trainer.batch_size",
    "batch": "trainer.batch_size",
    "patience": "trainer.patience",
    "devices": "trainer.devices",
    "imgsz": "preprocess.size",
    "image_size": "preprocess.size",
    "size": "preprocess.size",
    "model": "model.tier",
    "tier": "model.tier",
    "subsample": "data.subsample",
    "fraction": "data.subsample",
    "num_workers": "data.workers",
    "data.num_workers": "data.workers",
    "dropout": "model.dropout",
    "pretrained": "model.pretrained",
    "port": "serve.port",
    "host": "serve.host",
}
