"""Figures from malignant probabilities: definitions in plain NumPy, intervals by resampling lesions.

Arrays in, arrays or frozen records out. Functions of single figures take weights (b, n), one row per resample, and
return (b,), NaN where the data give no value; `estimate*` return records with intervals, None instead of NaN.
"""

from lesion.metrics.bootstrap import RESAMPLES, count_lesions, count_pairs, count_trials, estimate_figures
from lesion.metrics.calibration import (
    BINS,
    ReliabilityBin,
    brier,
    calibration_error,
    calibration_intercept,
    calibration_slope,
    estimate_reliability,
    expect_calibration_error,
    log_loss,
)
from lesion.metrics.comparison import Difference, compare, delong, estimate_auroc_loss
from lesion.metrics.curves import (
    DecisionCurve,
    estimate_decision_curve,
    estimate_precision_recall,
    estimate_roc,
)
from lesion.metrics.decisions import confusion, confusion_at, net_benefit, rates
from lesion.metrics.diagnoses import DiagnosesFigures, DiagnosisFigures, estimate_diagnoses, measure_diagnoses
from lesion.metrics.operating import ThresholdRow, estimate_thresholds
from lesion.metrics.ranking import (
    auroc,
    average_precision,
    partial_auroc,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)
from lesion.metrics.reasons import explain, why_undefined
from lesion.metrics.riskcoverage import RiskCoverage, estimate_risk_coverage, risk_area
from lesion.metrics.samples import Floats
from lesion.metrics.summary import OF_CALIBRATION, estimate, estimate_auroc, estimate_lesions, measure, point, pool
from lesion.metrics.thresholds import threshold_for_sensitivity

__all__ = [
    "BINS",
    "OF_CALIBRATION",
    "RESAMPLES",
    "DecisionCurve",
    "DiagnosesFigures",
    "DiagnosisFigures",
    "Difference",
    "Floats",
    "ReliabilityBin",
    "RiskCoverage",
    "ThresholdRow",
    "auroc",
    "average_precision",
    "brier",
    "calibration_error",
    "calibration_intercept",
    "calibration_slope",
    "compare",
    "confusion",
    "confusion_at",
    "count_lesions",
    "count_pairs",
    "count_trials",
    "delong",
    "estimate",
    "estimate_auroc",
    "estimate_auroc_loss",
    "estimate_decision_curve",
    "estimate_diagnoses",
    "estimate_figures",
    "estimate_lesions",
    "estimate_precision_recall",
    "estimate_reliability",
    "estimate_risk_coverage",
    "estimate_roc",
    "estimate_thresholds",
    "expect_calibration_error",
    "explain",
    "log_loss",
    "measure",
    "measure_diagnoses",
    "net_benefit",
    "partial_auroc",
    "point",
    "pool",
    "rates",
    "risk_area",
    "sensitivity_at_specificity",
    "specificity_at_sensitivity",
    "threshold_for_sensitivity",
    "why_undefined",
]
