package veca.core

import kotlin.math.max
import kotlin.math.min

/**
 * When a [Governor] moves. Times are in seconds, shares are of the budget or of frames.
 *
 * @property interval least time between two moves
 * @property burst down at once when [burstMisses] of the last [burst] frames missed the budget
 * @property window down when [missShare] of the last [window] frames missed it
 * @property least frames at a core count before a move up is considered, and before [missShare] counts
 * @property room a larger core count must be predicted to take at most this share of the budget
 * @property probation a core count that is left within this time of reaching it has failed
 * @property backoff how long one that failed is not tried; doubles with each failure, up to [longestBackoff]
 * @property relief it is tried earlier once its prediction is below this share of the one that failed
 * @property usual of a frame's budget is subtracted what this share of the recent frames' earlier stages did not exceed
 */
data class Rules(
    val interval: Double = 1.0,
    val burst: Int = 8,
    val burstMisses: Int = 3,
    val window: Int = 60,
    val missShare: Double = 0.05,
    val least: Int = 20,
    val room: Double = 0.92,
    val probation: Double = 10.0,
    val backoff: Double = 5.0,
    val longestBackoff: Double = 120.0,
    val relief: Double = 0.85,
    val usual: Double = 0.9,
)

/**
 * Holds a latency budget by moving between core counts. Latencies and times come in, a core count goes out.
 *
 * A measured latency over the expected one is the phone's load, whichever core count it was measured at, so the recent
 * loads predict what any other core count would take now. It moves down when too many recent frames missed the budget,
 * and up when a larger core count would have met it with room to spare; a core count that had to be left soon after it
 * was reached is not tried again for a while that doubles each time. A budget of the whole frame leaves the model what
 * the stages before it usually do not take; where they leave nothing, it stays.
 *
 * @param expected latency of each allowed core count on an idle phone, in milliseconds; only their ratios matter
 * @param modelBudgetMs what the model may take for a frame; infinite where it has no limit of its own
 * @param coreCount the current one
 * @param frameBudgetMs what a frame may take from its capture to its result; infinite sets no limit
 */
class Governor(
    expected: Map<Int, Double>,
    private val modelBudgetMs: Double,
    coreCount: Int,
    private val rules: Rules = Rules(),
    private val frameBudgetMs: Double = Double.POSITIVE_INFINITY,
) {
    /** What the model may take of the next frame. */
    var budgetMs: Double = min(modelBudgetMs, frameBudgetMs)
        private set

    var coreCount: Int = coreCount
        private set

    private val expected = sortedMapOf<Int, Double>()
    private val loads = ArrayDeque<Double>()
    private val before = ArrayDeque<Double>()
    private var sinceMove = 0
    private var movedAt = Double.NEGATIVE_INFINITY
    private val climbed = mutableMapOf<Int, Climb>()
    private val failed = mutableMapOf<Int, Failure>()

    private data class Climb(val at: Double, val predictedMs: Double)

    private data class Failure(val until: Double, val backoff: Double, val predictedMs: Double)

    init {
        require(budgetMs > 0) { "a budget of $budgetMs ms cannot be held" }
        require(coreCount in expected) { "there is no expected latency of $coreCount cores" }
        // More cores never cost less: what a noisy measurement says otherwise is levelled.
        var highest = 0.0
        for (count in expected.keys.sorted()) {
            highest = max(highest, expected.getValue(count))
            this.expected[count] = highest
        }
    }

    /**
     * Takes the latency of one frame.
     *
     * @param at what the frame ran at; one that has been left meanwhile is ignored
     * @param now seconds, never decreasing
     * @param beforeMs what the frame took before the model
     * @return the core count for the next frame
     */
    fun observe(at: Int, latencyMs: Double, now: Double, beforeMs: Double = 0.0): Int {
        if (at != coreCount) return coreCount
        loads.addLast(latencyMs / expected.getValue(at))
        if (loads.size > rules.window) loads.removeFirst()
        sinceMove += 1
        if (frameBudgetMs.isFinite()) {
            before.addLast(beforeMs)
            if (before.size > rules.window) before.removeFirst()
        }
        if (now - movedAt < rules.interval || !leavesTime()) return coreCount
        if (!down(now)) up(now)
        return coreCount
    }

    /** Sets what the stages before the model leave it; whether they leave anything. */
    private fun leavesTime(): Boolean {
        if (!frameBudgetMs.isFinite()) return true
        val left = frameBudgetMs - quantile(before, rules.usual)
        budgetMs = min(modelBudgetMs, if (left > 0) left else frameBudgetMs)
        return left > 0
    }

    /** Whether the budget is being missed. */
    private fun down(now: Double): Boolean {
        val load = burst() ?: scattered() ?: return false
        val smaller = expected.keys.filter { it < coreCount }
        if (smaller.isEmpty()) return true
        fail(now)
        move(now, smaller.lastOrNull { load * expected.getValue(it) <= budgetMs * rules.room } ?: smaller.first())
        return true
    }

    /** The load of a typical miss where there are enough of them among the last few frames. */
    private fun burst(): Double? {
        val missed = own(rules.burst).filter { it * expected.getValue(coreCount) > budgetMs }
        return if (missed.size < rules.burstMisses) null else quantile(missed, 0.5)
    }

    /** The load of the slowest but a few of more frames. One that is late at every core count is no reason to move. */
    private fun scattered(): Double? {
        val recent = own(rules.window)
        val fastest = expected.values.min()
        val missed = recent.count { it * fastest <= budgetMs && budgetMs < it * expected.getValue(coreCount) }
        val enough = max(rules.burstMisses.toDouble(), rules.missShare * recent.size)
        return if (recent.size < rules.least || missed < enough) null else quantile(recent, 1 - rules.missShare)
    }

    /** The last loads that were measured at the current core count. */
    private fun own(count: Int): List<Double> = loads.takeLast(min(count, sinceMove))

    /** Remembers that the current core count could not be held, if it was climbed to a short while ago. */
    private fun fail(now: Double) {
        val climb = climbed[coreCount]
        if (climb == null || now - climb.at > rules.probation) {
            failed.remove(coreCount)
            return
        }
        val backoff = failed[coreCount]?.let { min(2 * it.backoff, rules.longestBackoff) } ?: rules.backoff
        failed[coreCount] = Failure(now + backoff, backoff, climb.predictedMs)
    }

    private fun up(now: Double) {
        if (sinceMove < rules.least) return
        val load = quantile(loads, 1 - rules.missShare)
        for (count in expected.keys.filter { it > coreCount }.reversed()) {
            val predicted = load * expected.getValue(count)
            if (predicted <= budgetMs * rules.room && !barred(count, predicted, now)) {
                climbed[count] = Climb(now, predicted)
                move(now, count)
                return
            }
        }
    }

    /** Whether this core count, or a smaller one, failed a short while ago under no more load than now. */
    private fun barred(count: Int, predicted: Double, now: Double): Boolean =
        failed.any { (other, failure) ->
            val ratio = expected.getValue(count) / expected.getValue(other)
            count >= other && now < failure.until && predicted > rules.relief * failure.predictedMs * ratio
        }

    private fun move(now: Double, count: Int) {
        coreCount = count
        movedAt = now
        sinceMove = 0
    }
}

/** The value that `share` of the values do not exceed. */
private fun quantile(values: Collection<Double>, share: Double): Double {
    val ordered = values.sorted()
    return ordered[min(ordered.size - 1, (share * ordered.size).toInt())]
}
