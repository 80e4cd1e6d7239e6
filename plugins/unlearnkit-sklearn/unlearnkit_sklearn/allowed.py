"""The library types that a stored state may name, beyond the estimators and plain values that skops itself trusts.

Nothing else is ever looked up, whatever the bytes ask for.
"""

from __future__ import annotations

_METRICS = [
    "Euclidean",
    "SEuclidean",
    "Manhattan",
    "Chebyshev",
    "Minkowski",
    "Mahalanobis",
    "Canberra",
    "BrayCurtis",
    "Hamming",
    "Haversine",
    "Jaccard",
    "Dice",
    "RogersTanimoto",
    "RussellRao",
    "SokalSneath",
    "Matching",
]
_KERNELS = [
    "RBF",
    "Matern",
    "RationalQuadratic",
    "ExpSineSquared",
    "DotProduct",
    "ConstantKernel",
    "WhiteKernel",
    "PairwiseKernel",
    "Sum",
    "Product",
    "Exponentiation",
    "CompoundKernel",
    "Hyperparameter",
]
_LOSSES = [
    "AbsoluteError",
    "ExponentialLoss",
    "HalfBinomialLoss",
    "HalfGammaLoss",
    "HalfMultinomialLoss",
    "HalfPoissonLoss",
    "HalfSquaredError",
    "HalfTweedieLoss",
    "HalfTweedieLossIdentity",
    "HuberLoss",
    "PinballLoss",
]

_LINKS = ["HalfLogitLink", "IdentityLink", "Interval", "LogLink", "LogitLink", "MultinomialLogit"]

OBJECTS = frozenset(
    {
        "scipy.interpolate._bsplines.BSpline",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.calibration._TemperatureScaling",
        "sklearn.cluster._bisect_k_means._BisectingTree",
        "sklearn.compose._column_transformer._RemainderColsList",
        "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.model_selection._split.KFold",
        "sklearn.model_selection._split.StratifiedKFold",
        "sklearn.multiclass._ConstantPredictor",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._ball_tree.BallTree32",
        "sklearn.neighbors._ball_tree.BallTree64",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neighbors._kd_tree.KDTree32",
        "sklearn.neighbors._kd_tree.KDTree64",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        *(f"sklearn._loss.link.{name}" for name in _LINKS),
        *(f"sklearn._loss.loss.{name}" for name in _LOSSES),
        *(f"sklearn.gaussian_process.kernels.{name}" for name in _KERNELS),
        *(f"sklearn.metrics._dist_metrics.{name}Distance{bits}" for name in _METRICS for bits in ("", "32", "64")),
    }
)
FUNCTIONS = frozenset(
    {
        "scipy._lib.array_api_compat.numpy._aliases.asarray",
        "sklearn.cluster._kmeans._kmeans_single_elkan",
        "sklearn.cluster._kmeans._kmeans_single_lloyd",
        "sklearn.utils.validation.check_array",
    }
)
SPARSE = frozenset(
    f"scipy.sparse._{kind}.{kind}_{suffix}"
    for kind in ("bsr", "coo", "csc", "csr", "dia")
    for suffix in ("matrix", "array")
)
PLAIN = frozenset({"builtins.frozenset", "functools.partial", "numpy.dtype", "sklearn.utils._bunch.Bunch"})
# Their indices are checked before they are built: scikit-learn follows them without a bounds check.
TREES = frozenset({"sklearn.tree._tree.Tree"})

ALLOWED = OBJECTS | FUNCTIONS | SPARSE | PLAIN | TREES
