from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Augmentation:
    on: bool = False

    @classmethod
    def none(cls):
        return cls(False)

    def to_json(self):
        return asdict(self)


def augment(levels, targets, mask, seed, augmentation, task, amin, backgrounds=None):
    return levels, targets, mask


def reference(levels, front_end):
    import tensorflow as tf

    peak = tf.reduce_max(levels, axis=[1, 2], keepdims=True)
    if front_end.top_db is not None:
        levels = tf.maximum(levels, peak - front_end.top_db)
    return levels - (peak if front_end.db_ref == "max" else 0.0)
