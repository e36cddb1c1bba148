"""The columns of the store."""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = 4

_EDIT = pa.struct(
    [
        ("tau", pa.string()),
        ("layer", pa.int32()),
        ("rho", pa.float64()),
        ("method", pa.string()),
        ("rank", pa.int32()),  # singular directions kept, over all blocks of rows; null where there are none to count
        ("options", pa.string()),  # JSON
        ("parameters", pa.int64()),  # numbers that the edited matrix takes
        ("row_clusters", pa.list_(pa.uint16())),  # block of each row; null where blocks are consecutive
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
        ("limit", pa.int64()),  # examples that were asked for; null for the whole split
        ("num_examples", pa.int64()),
        ("num_skipped", pa.int64()),  # rows of the split that could not be asked
        ("intervention", pa.string()),
        ("tau", pa.string()),  # null for the untouched model
        ("layer", pa.int32()),  # null for the untouched model and for all layers together
        ("rho", pa.float64()),
        ("edits", pa.list_(_EDIT)),
        ("parameters", pa.int64()),  # of all edited matrices; null where one has none, and for the untouched model
        ("status", pa.string()),  # done or failed
        ("error", pa.string()),
        ("accuracy", pa.float64()),  # fractions in 0..1, also in the columns below; null of episodes
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
        ("mean_return", pa.float64()),  # sum of rewards; null of answers, as the three below
        ("return_stderr", pa.float64()),  # null for one episode
        ("action_error", pa.float64()),  # mean square, against recorded actions; null without any
        ("success_rate", pa.float64()),  # null where the environment does not say
        ("gain", pa.float64()),  # accuracy, or return, minus the untouched model's
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
        ("episode_return", pa.float64()),  # null of answers, as the three below
        ("episode_length", pa.int64()),  # steps
        ("success", pa.bool_()),
        ("action_error", pa.float64()),
    ],
    metadata={"laser_sweep_schema": str(SCHEMA_VERSION)},
)

SPECTRA = pa.schema(
    [
        ("probe_key", pa.string()),
        ("model", pa.string()),
        ("model_revision", pa.string()),
        ("dtype", pa.string()),
        ("dataset", pa.string()),  # null where no examples were asked, as all below up to seed, and slopes
        ("split", pa.string()),
        ("limit", pa.int64()),  # null for the whole split
        ("seed", pa.int64()),
        ("tau", pa.string()),
        ("layer", pa.int32()),
        ("rows", pa.int64()),
        ("columns", pa.int64()),
        ("singular_values", pa.list_(pa.float64())),  # strongest first, as in all lists below
        ("num_examples", pa.int64()),
        ("gradient", pa.list_(pa.float64())),  # dL/dσ of the mean log-loss, nats
        ("gradient_stderr", pa.list_(pa.float64())),  # nan for one example, as all standard errors
        ("predicted_gain", pa.list_(pa.float64())),  # nats off the loss without this direction and all weaker ones
        ("predicted_gain_stderr", pa.list_(pa.float64())),
        ("last20", pa.float64()),  # positive gradients along the 20 weakest directions, added up
        ("last20_stderr", pa.float64()),
        ("attempt", pa.int32()),
        ("worker", pa.string()),
        ("device", pa.string()),
        ("started_at", pa.timestamp("ms", tz="UTC")),
        ("finished_at", pa.timestamp("ms", tz="UTC")),
        ("schema_version", pa.int32()),
    ],
    metadata={"laser_sweep_schema": str(SCHEMA_VERSION)},
)
