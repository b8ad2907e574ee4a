/// When a `Governor` moves. Times are in seconds, shares are of the budget or of frames.
public struct Rules: Sendable, Equatable {
    /// Least time between two moves.
    public var interval = 1.0
    /// Down at once when `burstMisses` of the last `burst` frames missed the budget.
    public var burst = 8
    public var burstMisses = 3
    /// Down when `missShare` of the last `window` frames missed it.
    public var window = 60
    public var missShare = 0.05
    /// Frames at a core count before a move up is considered, and before `missShare` counts.
    public var least = 20
    /// A larger core count must be predicted to take at most this share of the budget.
    public var room = 0.92
    /// A core count that is left within this time of reaching it has failed.
    public var probation = 10.0
    /// How long one that failed is not tried; doubles with each failure, up to `longestBackoff`.
    public var backoff = 5.0
    public var longestBackoff = 120.0
    /// It is tried earlier once its prediction is below this share of the one that failed.
    public var relief = 0.85
    /// Of a frame's budget is subtracted what this share of the recent frames' earlier stages did not exceed.
    public var usual = 0.9

    public init() {}
}

/// Holds a latency budget by moving between core counts. Latencies and times come in, a core count goes out.
///
/// A measured latency over the expected one is the device's load, whichever core count it was measured at, so the
/// recent loads predict what any other core count would take now. It moves down when too many recent frames missed the
/// budget, and up when a larger core count would have met it with room to spare; a core count that had to be left soon
/// after it was reached is not tried again for a while that doubles each time. A budget of the whole frame leaves the
/// model what the stages before it usually do not take; where they leave nothing, it stays.
public struct Governor: Sendable {
    private struct Climb { let at: Double, predicted: Double }
    private struct Failure { let until: Double, backoff: Double, predicted: Double }

    public private(set) var coreCount: Int
    /// What the model may take of the next frame, in milliseconds.
    public private(set) var budget: Double
    private let modelBudget: Double
    private let frameBudget: Double
    private let rules: Rules
    private let counts: [Int]
    private var expected: [Int: Double] = [:]
    private var loads: [Double] = []
    private var before: [Double] = []
    private var sinceMove = 0
    private var movedAt = -Double.infinity
    private var climbed: [Int: Climb] = [:]
    private var failed: [Int: Failure] = [:]

    /// - Parameters:
    ///   - expected: latency of each allowed core count on an idle device; only their ratios matter.
    ///   - budget: milliseconds that the model may take for a frame, above 0; infinite where it has no own limit.
    ///   - coreCount: the current one, among `expected`.
    ///   - frameBudget: what a frame may take from its capture to its result; infinite sets no limit.
    public init(
        expected: [Int: Double], budget: Double, coreCount: Int, rules: Rules = Rules(), frameBudget: Double = .infinity
    ) {
        precondition(budget > 0 && frameBudget > 0, "a budget of \(min(budget, frameBudget)) ms cannot be held")
        precondition(expected[coreCount] != nil, "there is no expected latency of \(coreCount) cores")
        (self.coreCount, self.rules, counts) = (coreCount, rules, expected.keys.sorted())
        (modelBudget, self.frameBudget, self.budget) = (budget, frameBudget, min(budget, frameBudget))
        // More cores never cost less: what a noisy measurement says otherwise is levelled.
        var highest = 0.0
        for count in counts {
            highest = max(highest, expected[count]!)
            self.expected[count] = highest
        }
    }

    /// Takes the latency of one frame, in milliseconds, and says what the next one runs at.
    ///
    /// - Parameters:
    ///   - at: what the frame ran at; one that has been left meanwhile is ignored.
    ///   - now: seconds, never decreasing.
    ///   - before: what the frame took before the model, in milliseconds.
    public mutating func observe(at count: Int, latency: Double, now: Double, before spent: Double = 0) -> Int {
        guard count == coreCount else { return coreCount }
        loads.append(latency / cost(count))
        if loads.count > rules.window { loads.removeFirst() }
        sinceMove += 1
        if frameBudget.isFinite {
            before.append(spent)
            if before.count > rules.window { before.removeFirst() }
        }
        if now - movedAt >= rules.interval && leavesTime() && !down(now) { up(now) }
        return coreCount
    }

    /// Sets what the stages before the model leave it; whether they leave anything.
    private mutating func leavesTime() -> Bool {
        guard frameBudget.isFinite else { return true }
        let left = frameBudget - quantile(before, rules.usual)
        budget = min(modelBudget, left > 0 ? left : frameBudget)
        return left > 0
    }

    /// Whether the budget is being missed.
    private mutating func down(_ now: Double) -> Bool {
        guard let load = burst() ?? scattered() else { return false }
        let smaller = counts.filter { $0 < coreCount }
        guard let fewest = smaller.first else { return true }
        fail(now)
        move(now, smaller.last { load * cost($0) <= budget * rules.room } ?? fewest)
        return true
    }

    /// The load of a typical miss where there are enough of them among the last few frames.
    private func burst() -> Double? {
        let missed = own(rules.burst).filter { $0 * cost(coreCount) > budget }
        return missed.count < rules.burstMisses ? nil : quantile(missed, 0.5)
    }

    /// The load of the slowest but a few of more frames. One that is late at every core count is no reason to move.
    private func scattered() -> Double? {
        let recent = own(rules.window)
        let fastest = cost(counts[0])
        let missed = recent.filter { $0 * fastest <= budget && budget < $0 * cost(coreCount) }
        let enough = max(Double(rules.burstMisses), rules.missShare * Double(recent.count))
        return recent.count < rules.least || Double(missed.count) < enough ? nil : quantile(recent, 1 - rules.missShare)
    }

    /// The last loads that were measured at the current core count.
    private func own(_ count: Int) -> [Double] { loads.suffix(min(count, sinceMove)) }

    /// Remembers that the current core count could not be held, if it was climbed to a short while ago.
    private mutating func fail(_ now: Double) {
        guard let climb = climbed[coreCount], now - climb.at <= rules.probation else {
            failed[coreCount] = nil
            return
        }
        let backoff = failed[coreCount].map { min(2 * $0.backoff, rules.longestBackoff) } ?? rules.backoff
        failed[coreCount] = Failure(until: now + backoff, backoff: backoff, predicted: climb.predicted)
    }

    private mutating func up(_ now: Double) {
        guard sinceMove >= rules.least else { return }
        let load = quantile(loads, 1 - rules.missShare)
        for count in counts.reversed() where count > coreCount {
            let predicted = load * cost(count)
            if predicted <= budget * rules.room && !barred(count, predicted, now) {
                climbed[count] = Climb(at: now, predicted: predicted)
                move(now, count)
                return
            }
        }
    }

    /// Whether this core count, or a smaller one, failed a short while ago under no more load than now.
    private func barred(_ count: Int, _ predicted: Double, _ now: Double) -> Bool {
        failed.contains { other, failure in
            count >= other && now < failure.until
                && predicted > rules.relief * failure.predicted * cost(count) / cost(other)
        }
    }

    private mutating func move(_ now: Double, _ count: Int) {
        (coreCount, movedAt, sinceMove) = (count, now, 0)
    }

    private func cost(_ count: Int) -> Double { expected[count]! }
}

/// The value that `share` of the values do not exceed.
private func quantile(_ values: [Double], _ share: Double) -> Double {
    values.sorted()[min(values.count - 1, Int(share * Double(values.count)))]
}
