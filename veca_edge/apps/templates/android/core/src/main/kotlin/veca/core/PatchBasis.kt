package veca.core

import kotlin.math.abs
import kotlin.math.max
import kotlin.math.sqrt

/**
 * Axes of patch features, one for red, green and blue each, and the values that are black and full. One basis for a
 * whole run keeps colours from flickering.
 *
 * @property mean `[width]`
 * @property axes three of `[width]`; the first holds most of what differs between patches
 */
class PatchBasis(
    internal val mean: FloatArray,
    internal val axes: List<FloatArray>,
    internal val low: FloatArray,
    internal val high: FloatArray,
) {
    /** Colours of patches `[patches, width]`: `[patches, 3]`, 0 to 255. */
    fun colours(features: FloatArray): FloatArray {
        val patches = features.size / mean.size
        val made = FloatArray(patches * 3)
        for (patch in 0 until patches) {
            for ((c, axis) in axes.withIndex()) {
                val width = high[c] - low[c]
                // An axis along which nothing differs is grey.
                val share = if (width > 0) (along(features, patch, mean, axis) - low[c]) / width else 0.5f
                made[patch * 3 + c] = 255 * share.coerceIn(0f, 1f)
            }
        }
        return made
    }

    companion object {
        private const val ROUNDS = 60

        /** The three main components of patches `[patches, width]`. */
        fun of(features: FloatArray, width: Int): PatchBasis {
            val patches = features.size / width
            require(patches > 0 && patches * width == features.size) { "${features.size} values are no patches" }
            require(features.all { it.isFinite() }) { "features that are not finite have no main components" }
            val mean = FloatArray(width) { i ->
                ((0 until patches).sumOf { features[it * width + i].toDouble() } / patches).toFloat()
            }
            val axes = mainAxes(features, mean, patches)
            val ends = axes.map { axis -> List(patches) { along(features, it, mean, axis) }.sorted() }
            return PatchBasis(
                mean,
                axes,
                FloatArray(3) { percentile(ends[it], 0.01) },
                FloatArray(3) { percentile(ends[it], 0.99) },
            )
        }

        /** Subspace iteration: three directions are multiplied by the covariance and made orthogonal, repeatedly. */
        private fun mainAxes(features: FloatArray, mean: FloatArray, patches: Int): List<FloatArray> {
            val width = mean.size
            val axes = List(3) { c -> DoubleArray(width) { if (it % 3 == c) 1.0 + it / (2.0 * width) else 0.0 } }
            repeat(ROUNDS) {
                for (c in axes.indices) {
                    val next = DoubleArray(width)
                    for (patch in 0 until patches) {
                        val at = patch * width
                        var product = 0.0
                        for (i in 0 until width) product += (features[at + i] - mean[i]) * axes[c][i]
                        for (i in 0 until width) next[i] += product * (features[at + i] - mean[i])
                    }
                    next.copyInto(axes[c])
                }
                orthonormalise(axes)
            }
            // An axis and its opposite are equally good: the larger entry is positive, so that runs agree.
            return axes.map { axis ->
                val largest = axis.maxByOrNull { abs(it) } ?: 0.0
                FloatArray(width) { (if (largest < 0) -axis[it] else axis[it]).toFloat() }
            }
        }

        private fun orthonormalise(axes: List<DoubleArray>) {
            // What rounding leaves of a direction that does not exist is no direction.
            val least = 1e-9 * (axes.maxOf { length(it) })
            for ((c, axis) in axes.withIndex()) {
                for (other in axes.take(c)) {
                    val product = axis.indices.sumOf { axis[it] * other[it] }
                    for (i in axis.indices) axis[i] -= product * other[i]
                }
                val length = length(axis)
                for (i in axis.indices) axis[i] = if (length > least) axis[i] / max(length, Double.MIN_VALUE) else 0.0
            }
        }

        private fun length(axis: DoubleArray): Double = sqrt(axis.sumOf { it * it })
    }
}

private fun along(features: FloatArray, patch: Int, mean: FloatArray, axis: FloatArray): Float {
    var sum = 0f
    for (i in mean.indices) sum += (features[patch * mean.size + i] - mean[i]) * axis[i]
    return sum
}
