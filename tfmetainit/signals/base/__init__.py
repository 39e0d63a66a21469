"""Base classes of the signal classes.

May import: TensorFlow, TFDS, `meta`, `forward_models`, `modalities`,
`geometry`, `io`.
"""

from tfmetainit.signals.base.folder import array_source, folder_source
from tfmetainit.signals.base.generated import (
    GeneratedImages,
    GeneratedSignals,
    generated_source,
    import_beam,
    make_generated_class,
    open_splits,
    pipeline_options,
)
from tfmetainit.signals.base.image_signal import ImageSignal
from tfmetainit.signals.base.pipeline import (
    SPLITS,
    Source,
    SourcedSignal,
)
from tfmetainit.signals.base.ray_signal import RaySignal, Region, Views
from tfmetainit.signals.base.signal_class import (
    SignalClass,
    first_tasks,
    to_sample,
    to_task,
)
from tfmetainit.signals.base.tfds_source import prepared_source, tfds_images
