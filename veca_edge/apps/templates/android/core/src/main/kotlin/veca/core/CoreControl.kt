package veca.core

/** How hot the phone says that it is: what of Android's thermal states matters here. */
enum class Heat { COOL, SEVERE, CRITICAL }

/** How the core count is chosen. */
sealed interface Choice {
    /** By hand. */
    data class Fixed(val coreCount: Int) : Choice

    /** The most cores that a frame can take within a budget. */
    data class Budget(val milliseconds: Double) : Choice
}

/**
 * The core count of the next frame: by hand or by a latency budget, and with fewer cores while the phone is hot.
 *
 * @param coreCounts those that there are
 * @param coreCount the one to begin with
 */
class CoreControl(coreCounts: List<Int>, coreCount: Int = coreCounts.min()) {
    private val counts = coreCounts.sorted()
    private var expected: Map<Int, Double>? = null
    private var budgetMs: Double? = null
    private var governor: Governor? = null
    private var chosen = coreCount
    private var beforeHeat: Int? = null

    /** Whether it runs fewer cores while the phone is hot. */
    @get:Synchronized @set:Synchronized
    var followsHeat = true
        set(value) {
            if (field == value) return
            field = value
            govern()
        }

    @get:Synchronized @set:Synchronized
    var heat = Heat.COOL
        set(value) {
            if (field == value) return
            field = value
            govern()
        }

    /** What to run next. */
    val coreCount: Int @Synchronized get() = if (followsHeat && governor == null) whenHot(chosen, heat) else chosen

    /** Whether a budget is chosen, and nobody has said yet what each core count takes. */
    val needsLatencies: Boolean @Synchronized get() = budgetMs != null && expected == null

    /** Says what each core count takes on this phone, in milliseconds; without it no budget is held. */
    @Synchronized
    fun expect(latencies: Map<Int, Double>) {
        require(latencies.keys.containsAll(counts)) { "latencies of ${latencies.keys}, not of all of $counts" }
        expected = latencies
        govern()
    }

    @Synchronized
    fun choose(choice: Choice) {
        when (choice) {
            is Choice.Fixed -> {
                require(choice.coreCount in counts) { "there are no ${choice.coreCount} cores, but $counts" }
                chosen = choice.coreCount
                beforeHeat = null
                budgetMs = null
            }
            is Choice.Budget -> {
                require(choice.milliseconds > 0) { "a budget of ${choice.milliseconds} ms cannot be held" }
                budgetMs = choice.milliseconds
            }
        }
        govern()
    }

    /** Takes the latency of one frame; see [Governor.observe]. */
    @Synchronized
    fun observe(at: Int, latencyMs: Double, now: Double) {
        governor?.let { chosen = it.observe(at, latencyMs, now) }
    }

    /** Holds the budget among the core counts that the heat allows: what runs at others tells a governor nothing. */
    private fun govern() {
        val known = expected
        val budget = budgetMs
        governor = null
        if (known == null || budget == null) return
        beforeHeat = if (followsHeat && heat != Heat.COOL) beforeHeat ?: chosen else null
        val most = beforeHeat?.let { whenHot(it, heat) } ?: counts.last()
        chosen = minOf(chosen, most)
        governor = Governor(known.filterKeys { it <= most }, budget, chosen)
    }

    /** The next fewer cores when the heat is severe, the fewest when it is critical. */
    private fun whenHot(wanted: Int, heat: Heat): Int = when (heat) {
        Heat.COOL -> wanted
        Heat.SEVERE -> counts.lastOrNull { it < wanted } ?: wanted
        Heat.CRITICAL -> counts.first()
    }
}
