package veca.core

import java.nio.ByteBuffer
import kotlin.math.max
import kotlin.math.min

/**
 * How a frame of any size becomes the model's input, as the bundle declares it.
 *
 * @property padding RGB beside a letterboxed frame, 0 to 255
 */
data class Preprocessing(
    val resize: Resize,
    val cropRatio: Double,
    val interpolation: Interpolation,
    val padding: List<Int>,
)

/** An upright picture in memory: the first three bytes of every pixel are red, green and blue. */
class Picture(
    val bytes: ByteBuffer,
    val width: Int,
    val height: Int,
    val pixelStride: Int = 3,
    val rowStride: Int = width * pixelStride,
) {
    constructor(rgb: ByteArray, width: Int, height: Int) : this(ByteBuffer.wrap(rgb), width, height)

    init {
        require(width > 0 && height > 0) { "a picture of $width x $height has no pixels" }
        require(pixelStride >= 3 && rowStride >= width * pixelStride) { "pixels of a picture overlap" }
        val end = (height - 1L) * rowStride + (width - 1L) * pixelStride + 3
        require(bytes.limit() >= end) { "the picture is cut off" }
    }

    val size: Size get() = Size(width, height)

    /** Copies a row's bytes from pixel `left` on; `to` is as long as what is wanted. */
    internal fun copyRow(row: Int, left: Int, to: ByteArray) {
        val source = bytes.duplicate()
        source.position(row * rowStride + left * pixelStride)
        source.get(to, 0, min(to.size, source.remaining()))
    }

    /** The picture as RGB bytes `[height, width, 3]`. */
    fun rgb(): ByteArray {
        val made = ByteArray(width * height * 3)
        val row = ByteArray(width * pixelStride)
        for (y in 0 until height) {
            copyRow(y, 0, row)
            for (x in 0 until width) {
                row.copyInto(made, (y * width + x) * 3, x * pixelStride, x * pixelStride + 3)
            }
        }
        return made
    }
}

/** Brings pictures to a model's input. It keeps its tables while the frames' size stays; one call at a time. */
class FramePreparer(private val preprocessing: Preprocessing, private val input: Size) {
    private var resampling: Pair<FrameGeometry, Resampling>? = null

    /** Where a frame of this size goes. */
    fun geometry(frame: Size): FrameGeometry =
        FrameGeometry.of(frame, input, preprocessing.resize, preprocessing.cropRatio)

    private fun tables(frame: Size): Pair<FrameGeometry, Resampling> {
        resampling?.takeIf { it.first.frame == frame }?.let { return it }
        val geometry = geometry(frame)
        return (geometry to Resampling(geometry, preprocessing.interpolation)).also { resampling = it }
    }

    /** @return RGB bytes `[height, width, 3]` of the model's input */
    fun prepare(picture: Picture): ByteArray {
        val (geometry, resampling) = tables(picture.size)
        val frame = ByteArray(input.width * input.height * 3)
        val laid = geometry.laid
        if (laid.width < input.width || laid.height < input.height) {
            for (i in frame.indices) frame[i] = preprocessing.padding[i % 3].toByte()
        }
        val left = max(0, laid.left)
        val top = max(0, laid.top)
        resampling.run(picture, frame, (top * input.width + left) * 3)
        return frame
    }
}
