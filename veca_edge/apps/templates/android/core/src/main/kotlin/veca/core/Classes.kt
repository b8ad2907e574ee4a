package veca.core

import kotlin.math.exp

/** A class and its probability, 0 to 1. */
data class LikelyClass(val name: String, val share: Double)

/**
 * The most likely classes, best first.
 *
 * @param logits a score for each class
 * @param labels their names; where there are none, classes are called by their number
 */
fun topClasses(logits: FloatArray, labels: List<String>, most: Int = 5): List<LikelyClass> {
    val largest = logits.max()
    val likely = logits.map { exp((it - largest).toDouble()) }
    val sum = likely.sum()
    return likely.indices.sortedByDescending { likely[it] }.take(most)
        .map { LikelyClass(labels.getOrElse(it) { _ -> it.toString() }, likely[it] / sum) }
}

/** The classes of a label map, the largest first, with their shares of what has a class; negative numbers have none. */
fun shares(labels: IntArray, names: List<String>): List<LikelyClass> {
    val counts = labels.filter { it >= 0 }.groupingBy { it }.eachCount()
    val all = counts.values.sum()
    return counts.entries.sortedByDescending { it.value }
        .map { (label, count) -> LikelyClass(names.getOrElse(label) { it.toString() }, count.toDouble() / all) }
}
