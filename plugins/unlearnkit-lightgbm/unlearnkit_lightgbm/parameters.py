"""LightGBM's parameters: which keep their meaning when a model is trained by slices, and how they may be spelled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lightgbm.basic import _ConfigAliases

from unlearnkit.errors import CapabilityError


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


MULTICLASS = _names("multiclass softmax multiclassova multiclass_ova ova ovr")
PROBABILITIES = MULTICLASS | _names("binary cross_entropy xentropy")
LOG_LOSS = PROBABILITIES | _names("cross_entropy_lambda xentlambda")
VALUES = (LOG_LOSS - MULTICLASS) | _names("""
    regression regression_l2 l2 mean_squared_error mse l2_root root_mean_squared_error rmse
    regression_l1 l1 mean_absolute_error mae huber fair poisson quantile
    mape mean_absolute_percentage_error gamma tweedie
""")

# Kept at every number of slices.
_TREES = _names("""
    boosting data_sample_strategy learning_rate num_leaves max_depth min_data_in_leaf min_sum_hessian_in_leaf
    bagging_fraction pos_bagging_fraction neg_bagging_fraction bagging_freq feature_fraction feature_fraction_bynode
    extra_trees max_delta_step lambda_l1 lambda_l2 linear_tree linear_lambda min_gain_to_split drop_rate max_drop
    skip_drop xgboost_dart_mode uniform_drop top_rate other_rate min_data_per_group max_cat_threshold cat_l2
    cat_smooth max_cat_to_onehot monotone_constraints monotone_constraints_method monotone_penalty feature_contri
    cegb_tradeoff cegb_penalty_split path_smooth interaction_constraints use_quantized_grad num_grad_quant_bins
    quant_train_renew_leaf stochastic_rounding histogram_pool_size force_col_wise force_row_wise
""")
_BINS = _names("""
    max_bin max_bin_by_feature min_data_in_bin bin_construct_sample_cnt data_random_seed is_enable_sparse
    enable_bundle use_missing zero_as_missing feature_pre_filter
""")
_LOSSES = _names("""
    is_unbalance scale_pos_weight sigmoid boost_from_average reg_sqrt alpha fair_c poisson_max_delta_step
    tweedie_variance_power metric multi_error_top_k auc_mu_weights
""")
STOPPING = _names("early_stopping_round early_stopping_min_delta first_metric_only")
# Drawn anew in every step, like the seed itself.
SEEDS = _names("bagging_seed feature_fraction_seed extra_seed drop_seed objective_seed")
_OWN = _names("seed objective num_iterations categorical_feature num_class")
# Change no result, or are decided by the learner.
_NEUTRAL = _names("num_threads verbosity deterministic saved_feature_importance_type predict_disable_shape_check")
WHOLE_ONLY = _names("cegb_penalty_feature_lazy cegb_penalty_feature_coupled")
_ONLY = {"device_type": "cpu", "tree_learner": "serial", "num_machines": 1, "task": "train"}
_KNOWN = _TREES | _BINS | _LOSSES | STOPPING | SEEDS | _OWN | _NEUTRAL | WHOLE_ONLY | _ONLY.keys()
_DROPPED = (_NEUTRAL - {"verbosity"}) | _ONLY.keys()


def neutral() -> frozenset[str]:
    """The parameters that never change a result, in all spellings."""
    return frozenset(_spellings(_NEUTRAL)) | {"importance_type"}


def spellings(name: str) -> frozenset[str]:
    """All the names that LightGBM takes for this parameter."""
    return frozenset(_spellings([name]))


def canonical(given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters under LightGBM's own names, without those that change nothing.

    Of several spellings LightGBM takes its own name, else the shortest, else the first by the alphabet.

    Raises
    ------
    CapabilityError
        For a parameter that could not keep its meaning.
    """
    names = _spellings(_KNOWN)
    chosen: dict[str, Any] = {}
    for name in sorted(given, key=lambda name: (name != names.get(name), len(name), name)):
        if given[name] is not None:
            chosen.setdefault(names.get(name, name), given[name])
    for name, value in chosen.items():
        _require_known(name, value)
    return {name: value for name, value in chosen.items() if name not in _DROPPED}


def refusal(name: str, reason: str) -> CapabilityError:
    """The error for a parameter that cannot be kept."""
    return CapabilityError(f"{name} cannot keep its meaning under exact forgetting: {reason}. Nothing was changed.")


def _spellings(names: Iterable[str]) -> dict[str, str]:
    return {spelling: name for name in names for spelling in _ConfigAliases.get(name)}


def _require_known(name: str, value: Any) -> None:
    if name not in _KNOWN:
        reason = (
            "it names files, other data, devices or machines, belongs to ranking or prediction, "
            "or is unknown to LightGBM"
        )
        raise refusal(name, reason)
    if name in _ONLY and str(value).lower() != str(_ONLY[name]):
        raise refusal(name, f"only {_ONLY[name]!r} leaves the same bytes everywhere")
