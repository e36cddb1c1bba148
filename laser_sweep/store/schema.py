"""The columns of the store."""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = 2

_EDIT = pa.struct(
    [
        ("tau", pa.string()),
        ("layer", pa.int32()),
        ("rho", pa.float64()),
        ("method", pa.string()),
        ("rank", pa.int32()),
    ]
)

TRIALS = pa.schema(
    [
        ("trial_key", pa.string()),
        ("sweep", pa.string()),
        ("model", pa.string()),
        ("model_revision", pa.string()),
        ("dtype", pa.string()),
        ("dataset", pa.string()),
        ("split", pa.string()),
        ("num_examples", pa.int64()),
        ("num_skipped", pa.int64()),  # rows of the split that could not be asked
        ("intervention", pa.string()),
        ("tau", pa.string()),  # null for the untouched model
        ("layer", pa.int32()),  # null for the untouched model and for all layers together
        ("rho", pa.float64()),
        ("edits", pa.list_(_EDIT)),
        ("status", pa.string()),  # done or failed
        ("error", pa.string()),
        ("accuracy", pa.float64()),  # fractions in 0..1, also in the columns below
        ("accuracy_stderr", pa.float64()),
        ("log_loss", pa.float64()),  # nats
        ("majority_accuracy", pa.float64()),
        ("balanced_accuracy", pa.float64()),
        ("top1_accuracy", pa.float64()),  # null where answers are not one token
        ("top5_accuracy", pa.float64()),
        ("top10_accuracy", pa.float64()),
        ("f1", pa.float64()),  # null where nothing is generated
        ("group_accuracy", pa.float64()),  # share of groups whose examples are all right
        ("prediction_counts", pa.map_(pa.string(), pa.int64())),  # null where answers are not classes
        ("gain", pa.float64()),  # accuracy minus the untouched model's
        ("gain_p_value", pa.float64()),
        ("attempt", pa.int32()),
        ("worker", pa.string()),
        ("device", pa.string()),
        ("seconds_factor", pa.float64()),
        ("seconds_edit", pa.float64()),
        ("seconds_eval", pa.float64()),
        ("started_at", pa.timestamp("ms", tz="UTC")),
        ("finished_at", pa.timestamp("ms", tz="UTC")),
        ("config_json", pa.string()),
        ("schema_version", pa.int32()),
    ],
    metadata={"laser_sweep_schema": str(SCHEMA_VERSION)},
)

PREDICTIONS = pa.schema(
    [
        ("trial_key", pa.string()),
        ("example_id", pa.string()),
        ("gold", pa.string()),
        ("prediction", pa.string()),
        ("correct", pa.bool_()),
        ("gold_log_prob", pa.float64()),
        ("gold_length", pa.int64()),  # tokens of the gold answer
        ("gold_rank", pa.int64()),  # 0 is top-1; of several tokens the largest
        ("text_rank", pa.int64()),  # place of the gold text among the ten most probable tokens; null outside
        ("f1", pa.float64()),  # null where nothing is generated
        ("group", pa.string()),
        ("subject", pa.string()),
        ("relation", pa.string()),
        ("frequency", pa.float64()),
    ],
    metadata={"laser_sweep_schema": str(SCHEMA_VERSION)},
)
