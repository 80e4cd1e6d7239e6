"""Every error that unlearnkit raises on purpose.

::

    UnlearnKitError
    ├── DataError (ValueError)              rows, targets, weights or ids that cannot be used
    │   ├── DataTypeError (TypeError)       ... because they are of the wrong kind
    │   ├── SchemaError                     ... because they do not fit the schema of the model
    │   ├── ForgottenRecordError            ... because they belong to ids that the store has forgotten
    │   └── RowsDifferError                 ... because they are not the records that the store has digests of
    ├── UnknownRecordError (LookupError)    an id that no record of the model has
    ├── ParameterError (ValueError)         an option of the estimator that makes no sense
    │   └── CapabilityError                 ... that the wrapped model cannot honour exactly
    ├── AdapterError
    │   ├── UnsupportedModelError (TypeError)   no plugin claims the model
    │   ├── MissingPluginError                  the plugin that would is not installed, or broken
    │   └── AdapterConflictError                several plugins claim it
    ├── TrainingError (RuntimeError)        a step failed; carries shard and slice
    ├── EnvironmentChangedError (RuntimeError)  training on would mix two environments
    ├── WorkerLostError (RuntimeError)      worker processes are killed again and again
    ├── NoConstituentError (RuntimeError)   every shard abstains, nothing can be predicted
    ├── StateError (ValueError)             stored bytes that are not what they claim to be
    ├── StoreError (RuntimeError)           a store cannot be opened, read or written
    │   ├── PredictOnlyError (AttributeError)   a model from a bundle was asked for what takes its store
    │   ├── StoreInUseError                 it holds another model, or another process is at work in it
    │   └── KeyMissingError                 a secret of it is neither in its file nor in the environment
    ├── CodeNeededError (RuntimeError)      the stored model needs the user's own code: pass estimator=
    └── RowsNeededError (RuntimeError)      the rows to train on are kept elsewhere: pass load_rows=

    UnlearnKitWarning (UserWarning)         nothing is wrong yet
    ├── DataWarning                         the data limit what can be forgotten, or how cheaply
    └── LeakageWarning                      a part saw records before the shards did: forgetting does not reach it

Each message says what was wrong, what was left unchanged, and what to do.
"""

from __future__ import annotations


class UnlearnKitError(Exception):
    """Root of the tree: catch this to catch all that unlearnkit raises."""


class DataError(UnlearnKitError, ValueError):
    """Rows, targets, weights or ids that cannot be used."""


class DataTypeError(DataError, TypeError):
    """Data of a kind that no model takes, such as a dict in a cell."""


class SchemaError(DataError):
    """Data that does not fit the schema that the model is held to."""


class ForgottenRecordError(DataError):
    """Rows of ids that the store has forgotten, in data that are to be trained on."""


class RowsDifferError(DataError):
    """Rows from outside a store that are not the records that it has digests of."""


class UnknownRecordError(UnlearnKitError, LookupError):
    """An id that no record of the model has, or that is of another type."""


class ParameterError(UnlearnKitError, ValueError):
    """An option that makes no sense."""


class CapabilityError(ParameterError):
    """An option that the wrapped model cannot honour while forgetting stays exact."""


class AdapterError(UnlearnKitError):
    """No single plugin can wrap the model."""


class UnsupportedModelError(AdapterError, TypeError):
    """No installed plugin claims the type of the model."""


class MissingPluginError(AdapterError):
    """The plugin for the model is not installed, or failed to import."""


class AdapterConflictError(AdapterError):
    """Several plugins claim the same type."""


class TrainingError(UnlearnKitError, RuntimeError):
    """A step of the build failed in the wrapped framework.

    Attributes
    ----------
    shard, slice : int or None
        Where it happened, None outside a build.
    cause : str
        The type of the framework's own error.
    """

    def __init__(
        self,
        message: str,
        shard: int | None = None,
        slice: int | None = None,  # noqa: A002 - the word of the field
        cause: str = "error",
    ) -> None:
        super().__init__(message)
        self.shard = shard
        self.slice = slice
        self.cause = cause

    def __reduce__(self) -> tuple[type[TrainingError], tuple[str, int | None, int | None, str]]:
        """Keep what it carries on the way back from a worker process, where ``__cause__`` is lost."""
        return type(self), (self.args[0], self.shard, self.slice, self.cause)


class EnvironmentChangedError(UnlearnKitError, RuntimeError):
    """A step would train on from a state that other library versions have made."""


class WorkerLostError(UnlearnKitError, RuntimeError):
    """Worker processes that are killed again and again while they train."""


class NoConstituentError(UnlearnKitError, RuntimeError):
    """Every shard abstains, so there is nothing to predict with."""


class StateError(UnlearnKitError, ValueError):
    """Stored bytes that are not what they claim to be; nothing in them was executed."""


class StoreError(UnlearnKitError, RuntimeError):
    """A store that cannot be opened, read or written; what was acknowledged before is as it was."""


class PredictOnlyError(StoreError, AttributeError):
    """A model that was loaded from a bundle, and asked for what it takes a store to do."""


class StoreInUseError(StoreError):
    """A store that holds another model, or that another process is at work in."""


class KeyMissingError(StoreError):
    """A secret of a store that is neither in its file nor in the environment."""


class CodeNeededError(UnlearnKitError, RuntimeError):
    """A stored model that needs code of the user's own, or was trained with other code than is here."""


class RowsNeededError(UnlearnKitError, RuntimeError):
    """A model whose rows are kept elsewhere was asked for what takes them."""


class UnlearnKitWarning(UserWarning):
    """Root of the warnings that are no failures."""


class DataWarning(UnlearnKitWarning):
    """Data that limit what can be forgotten, or how cheaply."""


class LeakageWarning(UnlearnKitWarning):
    """A part of the model saw records before the shards did, so forgetting does not reach what it learned."""
