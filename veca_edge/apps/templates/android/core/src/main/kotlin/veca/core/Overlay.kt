package veca.core

import kotlin.math.min
import kotlin.math.round

/** Metres at the two ends of a colour scale; one for a whole run keeps colours from flickering. */
data class DepthRange(val near: Float, val far: Float) {
    companion object {
        /** The range of a frame's depths, without the 2% that are nearest and farthest; null where none is known. */
        fun of(metres: FloatArray): DepthRange? {
            val known = metres.filter { it.isFinite() }.sorted()
            return if (known.isEmpty()) null else DepthRange(percentile(known, 0.02), percentile(known, 0.98))
        }
    }
}

/**
 * What a model says, blended over the frame that it saw. Frames are RGB bytes `[height, width, 3]`, maps are those of
 * [FrameMap], so that pixels that the model did not see stay as they are.
 */
object Overlay {
    private const val MASKS = 0.55f
    private const val DEPTH = 0.8f
    private const val COLOURS = 0.85f

    // Yellow to blue through green: even steps look even, in grey and to the colour-blind too.
    private val RAMP = listOf(
        intArrayOf(68, 1, 84), intArrayOf(59, 82, 139), intArrayOf(33, 145, 140), intArrayOf(94, 201, 98),
        intArrayOf(253, 231, 37),
    )

    /**
     * Coloured masks.
     *
     * @param labels of the pixels; negative numbers are no class
     * @param palette `0xRRGGBB` of each class
     */
    fun masks(frame: ByteArray, labels: IntArray, palette: List<Int>): ByteArray {
        require(labels.size * 3 == frame.size) { "${labels.size} labels are not those of the frame's pixels" }
        val made = frame.copyOf()
        for ((i, label) in labels.withIndex()) {
            if (label < 0) continue
            val colour = requireNotNull(palette.getOrNull(label)) { "class $label has no colour" }
            for (c in 0 until 3) blend(made, i * 3 + c, (colour shr (16 - 8 * c) and 0xff).toFloat(), MASKS)
        }
        return made
    }

    /** Depth as colours, near bright and far dark; NaN leaves the frame. */
    fun depth(frame: ByteArray, metres: FloatArray, range: DepthRange): ByteArray {
        require(metres.size * 3 == frame.size) { "${metres.size} depths are not those of the frame's pixels" }
        val made = frame.copyOf()
        val width = (range.far - range.near).let { if (it > 0) it else 1f }
        for ((i, depth) in metres.withIndex()) {
            if (!depth.isFinite()) continue
            val near = 1 - (depth - range.near) / width
            for (c in 0 until 3) blend(made, i * 3 + c, ramp(near, c), DEPTH)
        }
        return made
    }

    /** Colours `[height, width, 3]`, 0 to 255, such as those of [PatchBasis]; NaN leaves the frame. */
    fun colours(frame: ByteArray, colours: FloatArray): ByteArray {
        require(colours.size == frame.size) { "${colours.size} colours are not those of the frame's pixels" }
        val made = frame.copyOf()
        for (i in colours.indices) if (colours[i].isFinite()) blend(made, i, colours[i], COLOURS)
        return made
    }

    private fun ramp(value: Float, channel: Int): Float {
        val at = value.coerceIn(0f, 1f).toDouble() * (RAMP.size - 1)
        val lower = min(at.toInt(), RAMP.size - 2)
        val from = RAMP[lower][channel]
        return round(from + (at - lower) * (RAMP[lower + 1][channel] - from)).toFloat()
    }

    private fun blend(frame: ByteArray, at: Int, colour: Float, opacity: Float) {
        val seen = (frame[at].toInt() and 0xff).toFloat()
        frame[at] = round((seen * (1 - opacity) + colour * opacity).toDouble()).toInt().toByte()
    }
}

/** Linearly between the values around it. */
internal fun percentile(ordered: List<Float>, share: Double): Float {
    val at = share * (ordered.size - 1)
    val lower = at.toInt()
    val upper = min(lower + 1, ordered.size - 1)
    return (ordered[lower] + (ordered[upper] - ordered[lower]) * (at - lower)).toFloat()
}
