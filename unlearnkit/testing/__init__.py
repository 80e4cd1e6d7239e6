"""The conformance kit: checks that every learner must pass so that forgetting is exact.

Plugin authors call `check_learner`, or parametrise their tests by `parametrize_with_checks`.
"""

from unlearnkit.testing.arriving import check_goes_on_beyond_the_budget
from unlearnkit.testing.checks import (
    CHECKS,
    Check,
    check_capabilities_are_consistent,
    check_fingerprint_is_stable,
    check_forget_equals_refit,
    check_ignores_global_random_state,
    check_ignores_later_rows,
    check_knows_only_the_classes_of_the_prefix,
    check_learner_never_changes,
    check_learner_pickles,
    check_load_rejects_nonsense,
    check_load_runs_no_code,
    check_n_jobs_never_changes_a_byte,
    check_predict_leaves_the_state_alone,
    check_predictions_have_the_right_shape,
    check_resume_is_bitwise,
    check_same_bytes_in_another_process,
    check_sample_weight_is_used,
    check_scratch_is_only_a_cache,
    check_train_leaves_its_inputs_alone,
)
from unlearnkit.testing.joining import check_joining_changes_no_bit
from unlearnkit.testing.remembering import Memory, RememberingLearner
from unlearnkit.testing.running import check_learner, parametrize_with_checks
from unlearnkit.testing.sharing import check_sharing_changes_no_bit
from unlearnkit.testing.starting import (
    check_base_is_packed_alike,
    check_base_runs_no_code_and_is_no_nonsense,
    check_starts_from_the_base,
)
from unlearnkit.testing.subject import Subject, ensemble

__all__ = [
    "CHECKS",
    "Check",
    "Memory",
    "RememberingLearner",
    "Subject",
    "check_base_is_packed_alike",
    "check_base_runs_no_code_and_is_no_nonsense",
    "check_capabilities_are_consistent",
    "check_fingerprint_is_stable",
    "check_forget_equals_refit",
    "check_goes_on_beyond_the_budget",
    "check_ignores_global_random_state",
    "check_ignores_later_rows",
    "check_joining_changes_no_bit",
    "check_knows_only_the_classes_of_the_prefix",
    "check_learner",
    "check_learner_never_changes",
    "check_learner_pickles",
    "check_load_rejects_nonsense",
    "check_load_runs_no_code",
    "check_n_jobs_never_changes_a_byte",
    "check_predict_leaves_the_state_alone",
    "check_predictions_have_the_right_shape",
    "check_resume_is_bitwise",
    "check_same_bytes_in_another_process",
    "check_sample_weight_is_used",
    "check_scratch_is_only_a_cache",
    "check_sharing_changes_no_bit",
    "check_starts_from_the_base",
    "check_train_leaves_its_inputs_alone",
    "ensemble",
    "parametrize_with_checks",
]
