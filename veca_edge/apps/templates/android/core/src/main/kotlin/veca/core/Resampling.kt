package veca.core

import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min

/** How pixels are made smaller or larger; `key` is what bundles say. */
enum class Interpolation(val key: String) {
    /** Pillow's bicubic, to the bit: weights of 22 binary places, columns before rows, bytes between them. */
    BICUBIC("bicubic-antialiased"),

    /** The same, after halving while the box is at least four times as wide and as high as what it becomes. */
    HALVED("halved-bicubic"),
    ;

    /** How often a box is halved on its way to a size. */
    internal fun halvings(from: Box, to: Box): Int =
        if (this == BICUBIC) 0 else min(doublings(from.width, 4 * to.width), doublings(from.height, 4 * to.height))

    /** How often `least` doubles until it is over `side`. */
    private fun doublings(side: Int, least: Int): Int =
        generateSequence(least.toLong()) { 2 * it }.takeWhile { it <= side }.count()

    companion object {
        fun of(key: String): Interpolation =
            requireNotNull(entries.find { it.key == key }) { "no interpolation is called '$key'" }
    }
}

/**
 * Weights of one axis: output `i` is made of the inputs from `first(i)` on.
 *
 * @param extent of the inputs, which may end in the middle of the last of `from`
 */
private class Axis(from: Int, extent: Double, to: Int, outputs: IntRange) {
    val start = outputs.first
    val count = outputs.count()
    private val firsts = IntArray(count)
    private val weights = Array(count) { IntArray(0) }

    init {
        val scale = extent / to
        val wide = max(scale, 1.0)
        for (i in 0 until count) {
            val centre = (start + i + 0.5) * scale
            val first = max(0, (centre - SUPPORT * wide + 0.5).toInt())
            val last = min(from, (centre + SUPPORT * wide + 0.5).toInt())
            val shares = DoubleArray(last - first) { bicubic((it + first - centre + 0.5) * (1.0 / wide)) }
            val sum = shares.sum()
            firsts[i] = first
            weights[i] = IntArray(shares.size) { whole(if (sum != 0.0) shares[it] / sum else shares[it]) }
        }
    }

    fun first(i: Int): Int = firsts[i]

    fun weights(i: Int): IntArray = weights[i]

    /** The inputs that any output needs. */
    val needed: IntRange get() = firsts[0] until firsts[count - 1] + weights[count - 1].size

    private fun whole(share: Double): Int = (share * (1 shl BITS) + if (share < 0) -0.5 else 0.5).toInt()
}

/** Resizes the box `cut` of a frame; of the result only what lies in the input is made. */
internal class Resampling(private val geometry: FrameGeometry, interpolation: Interpolation) {
    private val halvings = interpolation.halvings(geometry.cut, geometry.laid)
    private val columns = with(geometry) { axis(cut.width, laid.width, laid.left, input.width) }
    private val rows = with(geometry) { axis(cut.height, laid.height, laid.top, input.height) }
    private val narrow = ByteArray(rows.needed.count() * columns.count * 3)

    /** Writes RGB rows, as far apart as those of the input, from `at` on. */
    fun run(picture: Picture, to: ByteArray, at: Int) {
        var source = picture
        var box = geometry.cut
        repeat(halvings) {
            source = halved(source, box)
            box = Box(0, 0, source.width, source.height)
        }
        val row = ByteArray(box.width * source.pixelStride)
        for ((i, y) in rows.needed.withIndex()) {
            source.copyRow(box.top + y, box.left, row)
            narrowRow(row, source.pixelStride, i * columns.count * 3)
        }
        val width = columns.count * 3
        for (y in 0 until rows.count) {
            val weights = rows.weights(y)
            val first = (rows.first(y) - rows.needed.first) * width
            val target = at + y * geometry.input.width * 3
            for (x in 0 until width) {
                var sum = HALF
                var from = first + x
                for (weight in weights) {
                    sum += value(narrow, from) * weight
                    from += width
                }
                to[target + x] = byte(sum)
            }
        }
    }

    private fun narrowRow(row: ByteArray, stride: Int, at: Int) {
        for (x in 0 until columns.count) {
            var red = HALF
            var green = HALF
            var blue = HALF
            var from = columns.first(x) * stride
            for (weight in columns.weights(x)) {
                red += value(row, from) * weight
                green += value(row, from + 1) * weight
                blue += value(row, from + 2) * weight
                from += stride
            }
            narrow[at + x * 3] = byte(red)
            narrow[at + x * 3 + 1] = byte(green)
            narrow[at + x * 3 + 2] = byte(blue)
        }
    }

    private fun axis(cut: Int, to: Int, laid: Int, input: Int): Axis {
        val from = (0 until halvings).fold(cut) { side, _ -> (side + 1) / 2 }
        return Axis(from, cut.toDouble() / (1 shl halvings), to, max(0, -laid) until min(to, input - laid))
    }
}

/** Half of a box, rounded up to whole pixels: means of four, and a last odd row or column taken twice. */
private fun halved(picture: Picture, box: Box): Picture {
    val width = (box.width + 1) / 2
    val height = (box.height + 1) / 2
    val stride = picture.pixelStride
    val upper = ByteArray(box.width * stride)
    val lower = ByteArray(box.width * stride)
    val made = ByteArray(width * height * 3)
    for (y in 0 until height) {
        picture.copyRow(box.top + 2 * y, box.left, upper)
        picture.copyRow(box.top + min(2 * y + 1, box.height - 1), box.left, lower)
        for (x in 0 until width) {
            val left = 2 * x * stride
            val right = min(2 * x + 1, box.width - 1) * stride
            for (c in 0 until 3) {
                val above = value(upper, left + c) + value(upper, right + c)
                val sum = above + value(lower, left + c) + value(lower, right + c)
                made[(y * width + x) * 3 + c] = ((sum + 2) shr 2).toByte()
            }
        }
    }
    return Picture(made, width, height)
}

private fun value(bytes: ByteArray, at: Int): Int = bytes[at].toInt() and 0xff

private const val BITS = 22
private const val HALF = 1 shl (BITS - 1)
private const val SUPPORT = 2.0
private const val A = -0.5

private fun byte(sum: Int): Byte = (sum shr BITS).coerceIn(0, 255).toByte()

private fun bicubic(at: Double): Double {
    val x = abs(at)
    return when {
        x < 1 -> ((A + 2) * x - (A + 3)) * x * x + 1
        x < 2 -> (((x - 5) * x + 8) * x - 4) * A
        else -> 0.0
    }
}
