"""CatBoost's parameters: which keep their meaning when a model is trained by slices, and how they may be spelled."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

from unlearnkit.errors import CapabilityError, ParameterError


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


SPELLINGS = {
    "eta": "learning_rate",
    "max_bin": "border_count",
    "max_depth": "depth",
    "colsample_bylevel": "rsm",
    "random_state": "random_seed",
    "reg_lambda": "l2_leaf_reg",
    "n_estimators": "iterations",
    "num_boost_round": "iterations",
    "num_trees": "iterations",
    "num_leaves": "max_leaves",
    "min_child_samples": "min_data_in_leaf",
    "objective": "loss_function",
    "early_stopping_rounds": "od_wait",
    "custom_loss": "custom_metric",
}

# Kept at every number of slices.
_KEPT = _names("""
    iterations learning_rate depth l2_leaf_reg model_size_reg rsm loss_function border_count feature_border_type
    per_float_feature_quantization fold_permutation_block nan_mode counter_calc_method leaf_estimation_iterations
    leaf_estimation_method leaf_estimation_backtracking random_seed ctr_leaf_count_limit store_all_simple_ctr
    max_ctr_complexity auto_class_weights class_weights scale_pos_weight one_hot_max_size random_strength
    random_score_type ignored_features bagging_temperature fold_len_multiplier approx_on_full_history boosting_type
    simple_ctr combinations_ctr ctr_history_unit per_feature_ctr ctr_target_border_count bootstrap_type subsample
    mvs_reg sampling_frequency sparse_features_conflict_fraction cat_features grow_policy min_data_in_leaf max_leaves
    score_function monotone_constraints feature_weights boost_from_average dev_score_calc_obj_block_size
    dev_efb_max_buckets
""")
_WHOLE_ONLY = {
    "model_shrink_rate": "shrinking scales the trees of earlier steps",
    "model_shrink_mode": "shrinking scales the trees of earlier steps",
    "langevin": "its noise shrinks the trees of earlier steps",
    "diffusion_temperature": "its noise shrinks the trees of earlier steps",
    "posterior_sampling": "it is set up by the number of rows for all trees at once",
    "penalties_coefficient": "features that earlier trees have paid for are free in later ones",
    "first_feature_use_penalties": "features that earlier trees have paid for are free in later ones",
    "per_object_feature_penalties": "features that earlier trees have paid for are free in later ones",
}
# Change no result, or are decided by the learner.
NEUTRAL = _names("""
    thread_count verbose silent logging_level metric_period name train_dir allow_writing_files custom_metric
    custom_loss eval_metric metadata
""")
_STOPPING = "it needs rows that are held out of the whole training"
_DEVICE = "bits are only promised on the CPU of one machine"
_LABELS = "labels are encoded before the model sees them"
_TEXT = "dictionaries and calcers of text and embeddings are not wrapped"
_SNAPSHOT = "it would write rows' influence to a file that no request reaches"
REFUSED = {
    **dict.fromkeys(("od_pval", "od_wait", "od_type", "use_best_model", "best_model_min_trees"), _STOPPING),
    "eval_fraction": _STOPPING,
    **dict.fromkeys(("save_snapshot", "snapshot_file", "snapshot_interval"), _SNAPSHOT),
    **dict.fromkeys(("input_borders", "output_borders"), "it names a file"),
    **dict.fromkeys(("gpu_ram_part", "pinned_memory_size", "device_config", "devices"), _DEVICE),
    **dict.fromkeys(("gpu_cat_features_storage", "data_partition", "used_ram_limit"), _DEVICE),
    **dict.fromkeys(("classes_count", "class_names", "target_border"), _LABELS),
    **dict.fromkeys(("text_features", "tokenizers", "dictionaries", "feature_calcers"), _TEXT),
    **dict.fromkeys(("text_processing", "embedding_features"), _TEXT),
    "has_time": "the order of the rows is that of a keyed hash of their ids",
    "sampling_unit": "rows come without groups",
    "allow_const_label": "a prefix of one target is always allowed",
    "callback": "what it keeps between steps is not stored",
    "final_ctr_computation_mode": "without its tables of categories a model cannot predict",
}
_ONLY = {"task_type": "CPU", "sampling_unit": "Object", "final_ctr_computation_mode": "Default", "has_time": "False"}
DEFAULT_ITERATIONS = 1000
_TWO = 2


def neutral() -> frozenset[str]:
    """The parameters that never change a result, in all spellings."""
    return NEUTRAL


def canonical(given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters under CatBoost's own names, without those that change nothing.

    Raises
    ------
    CapabilityError
        For a parameter that could not keep its meaning.
    ParameterError
        If one is given in two spellings.
    """
    chosen: dict[str, Any] = {}
    for spelling, value in given.items():
        name = SPELLINGS.get(spelling, spelling)
        if value is None or spelling in NEUTRAL or _is_only(name, value):
            continue
        if name in chosen:
            raise ParameterError(f"{name} is given twice, also as {spelling!r}; nothing was changed. Give it once.")
        if name not in _KEPT and name not in _WHOLE_ONLY:
            raise refusal(spelling, REFUSED.get(name, _ONLY_KNOWN if name not in _ONLY else _DEVICE))
        # CatBoost wants lists. scikit-learn cannot clone its estimators with them: they copy what they are given.
        chosen[name] = list(value) if isinstance(value, tuple) else value
    _check_values(chosen)
    return chosen


_ONLY_KNOWN = "it is unknown to this plugin"


def refusal(name: str, reason: str) -> CapabilityError:
    """The error for a parameter that cannot be kept."""
    return CapabilityError(f"{name} cannot keep its meaning under exact forgetting: {reason}. Nothing was changed.")


def why_whole(chosen: Mapping[str, Any]) -> str:
    """Why a model with these parameters has one slice only, or nothing."""
    return next((f"{name}: {why}" for name, why in _WHOLE_ONLY.items() if name in chosen), "")


def _is_only(name: str, value: Any) -> bool:
    return name in _ONLY and str(value) == _ONLY[name]


def _check_values(chosen: dict[str, Any]) -> None:
    rounds = chosen.get("iterations", DEFAULT_ITERATIONS)
    if not isinstance(rounds, numbers.Integral) or rounds < 1:
        raise ParameterError(f"iterations must be a positive whole number, not {rounds!r}; nothing was changed.")
    seed = chosen.get("random_seed")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, numbers.Integral)):
        raise refusal("random_seed", "a generator changes with use; give an int or None")
    weights = chosen.get("class_weights")
    if weights is not None and not isinstance(weights, Mapping) and len(weights) != _TWO:
        raise refusal("class_weights", "a shard may see fewer classes, so give a dict by label")
