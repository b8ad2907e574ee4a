package veca.core

import kotlin.math.ceil
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min

/**
 * Where a map of the model's input lies on a frame: for the pixels that the model saw, which cells show them.
 *
 * @param rows cells of the map from top to bottom
 * @param columns cells of the map from left to right
 */
class FrameMap(geometry: FrameGeometry, private val rows: Int, private val columns: Int) {
    private val frame = geometry.frame
    private val vertical =
        with(geometry) { Cells(frame.height, input.height, cut.top, cut.height, laid.top, laid.height, rows) }
    private val horizontal =
        with(geometry) { Cells(frame.width, input.width, cut.left, cut.width, laid.left, laid.width, columns) }

    /** The labels `[rows, columns]` on the frame's pixels `[height, width]`; -1 where the model saw nothing. */
    fun labels(map: IntArray): IntArray {
        require(map.size == rows * columns) { "a map of ${map.size} cells is not $rows x $columns" }
        val made = IntArray(frame.width * frame.height) { -1 }
        for (y in vertical.seen) {
            val row = vertical.nearest[y - vertical.seen.first] * columns
            for (x in horizontal.seen) {
                made[y * frame.width + x] = map[row + horizontal.nearest[x - horizontal.seen.first]]
            }
        }
        return made
    }

    /**
     * Values `[rows, columns, channels]` on the frame's pixels, linearly between the centres of cells; NaN where the
     * model saw nothing.
     */
    fun values(map: FloatArray, channels: Int = 1): FloatArray {
        require(map.size == rows * columns * channels) { "${map.size} values are not $rows x $columns x $channels" }
        val made = FloatArray(frame.width * frame.height * channels) { Float.NaN }
        val width = horizontal.seen.count() * channels
        // Every row of cells once: a frame has many more rows.
        val wide = FloatArray(rows * width)
        for (row in 0 until rows) {
            for (i in 0 until horizontal.seen.count()) {
                val share = horizontal.share[i]
                val lower = (row * columns + horizontal.lower[i]) * channels
                val upper = (row * columns + horizontal.upper[i]) * channels
                for (c in 0 until channels) {
                    wide[row * width + i * channels + c] = map[lower + c] * (1 - share) + map[upper + c] * share
                }
            }
        }
        for (y in vertical.seen) {
            val i = y - vertical.seen.first
            val share = vertical.share[i]
            val lower = vertical.lower[i] * width
            val upper = vertical.upper[i] * width
            val to = (y * frame.width + horizontal.seen.first) * channels
            for (x in 0 until width) {
                made[to + x] = wide[lower + x] * (1 - share) + wide[upper + x] * share
            }
        }
        return made
    }
}

/** One axis of a map and of a frame: `seen` are the frame's pixels that the model saw, the rest is of each of them. */
private class Cells(frame: Int, input: Int, cut: Int, cutExtent: Int, laid: Int, laidExtent: Int, cells: Int) {
    val seen: IntRange
    val nearest: IntArray
    val lower: IntArray
    val upper: IntArray
    val share: FloatArray

    init {
        val at = { pixel: Int -> laid + (pixel + 0.5 - cut) * laidExtent / cutExtent }
        val pixels = (max(0, cut) until min(frame, cut + cutExtent)).filter { at(it) >= 0 && at(it) < input }
        seen = if (pixels.isEmpty()) IntRange.EMPTY else pixels.first()..pixels.last()
        // The cells whose centres show the frame; where none does, the one that shows the most of it.
        val start = max(0, laid) * cells / input.toDouble()
        val stop = min(input, laid + laidExtent) * cells / input.toDouble()
        var low = ceil(start - 0.5).toInt()
        var high = floor(stop - 0.5).toInt()
        if (low > high) {
            low = min(cells - 1, ((start + stop) / 2).toInt())
            high = low
        }
        val places = pixels.map { at(it) * cells / input }
        nearest = IntArray(places.size) { places[it].toInt().coerceIn(low, high) }
        val between = places.map { (it - 0.5).coerceIn(low.toDouble(), high.toDouble()) }
        lower = IntArray(places.size) { min(between[it].toInt(), high) }
        upper = IntArray(places.size) { min(lower[it] + 1, high) }
        share = FloatArray(places.size) { (between[it] - lower[it]).toFloat() }
    }
}
