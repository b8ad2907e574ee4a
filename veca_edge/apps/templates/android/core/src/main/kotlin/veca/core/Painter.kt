package veca.core

/** What the model says of one frame. Outputs that were not exported are null. */
class Prediction(
    val coreCount: Int,
    /** The feature of the whole image, `[width]`. */
    val cls: FloatArray? = null,
    /** One feature per patch, row by row, `[patches, width]`. */
    val dense: FloatArray? = null,
    /** Class scores before softmax. */
    val logits: FloatArray? = null,
    /** The class of every square of pixels, `[rows, columns]`. */
    val segmentation: IntArray? = null,
    /** Metres, for every square of pixels, `[rows, columns]`. */
    val depth: FloatArray? = null,
)

/**
 * A painted frame.
 *
 * @property rgb bytes `[height, width, 3]`
 * @property legend names of what is shown, the most likely or largest first, with their shares
 */
class Painting(val rgb: ByteArray, val legend: List<LikelyClass> = emptyList())

/** Paints predictions on the frames that they are of. Colours mean the same for a whole run. */
class Painter(private val bundle: Bundle) {
    private val preparer = FramePreparer(bundle.preprocessing, bundle.input)
    private var range: DepthRange? = null
    private var basis: PatchBasis? = null
    private var placed: Pair<Pair<Size, Size>, FrameMap>? = null

    /** @param frame RGB bytes `[height, width, 3]` */
    fun paint(frame: ByteArray, size: Size, prediction: Prediction, show: Show): Painting = when (show) {
        Show.CLASSES -> Painting(frame, topClasses(given(prediction.logits, show), bundle.labels))
        Show.SEGMENTATION -> {
            val labels = on(size, bundle.maps).labels(given(prediction.segmentation, show))
            Painting(Overlay.masks(frame, labels, bundle.palette), shares(labels, bundle.maskLabels))
        }
        Show.DEPTH -> {
            val metres = on(size, bundle.maps).values(given(prediction.depth, show))
            range = range ?: DepthRange.of(metres)
            Painting(range?.let { Overlay.depth(frame, metres, it) } ?: frame)
        }
        Show.PCA -> {
            val features = given(prediction.dense, show)
            val axes = basis ?: PatchBasis.of(features, bundle.width).also { basis = it }
            Painting(Overlay.colours(frame, on(size, bundle.grid).values(axes.colours(features), 3)))
        }
    }

    private fun on(frame: Size, map: Size): FrameMap {
        placed?.takeIf { it.first == frame to map }?.let { return it.second }
        return FrameMap(preparer.geometry(frame), map.height, map.width).also { placed = (frame to map) to it }
    }

    private fun <T : Any> given(output: T?, show: Show): T =
        requireNotNull(output) { "the model has no output '${show.output}'" }
}
