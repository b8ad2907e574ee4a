import CoreVideo
import Foundation

/// How the core count is chosen.
public enum Choice: Sendable, Equatable {
    /// By hand.
    case fixed(Int)
    /// The most cores that a frame can take within so many milliseconds.
    case budget(Double)
}

/// The core count of the next frame: by hand or by a latency budget, and with fewer cores while the device is hot.
public struct CoreControl: Sendable {
    /// Whether it runs fewer cores while the device is hot.
    public var followsHeat = true { didSet { if followsHeat != oldValue { govern() } } }
    public var heat = ProcessInfo.ThermalState.nominal { didSet { if heat != oldValue { govern() } } }

    private let counts: [Int]
    private var expected: [Int: Double]?
    private var budget: Double?
    private var governor: Governor?
    private var chosen: Int
    private var beforeHeat: Int?

    public init(coreCounts: [Int], coreCount: Int) {
        precondition(coreCounts.contains(coreCount), "there are no \(coreCount) cores, but \(coreCounts)")
        (counts, chosen) = (coreCounts.sorted(), coreCount)
    }

    /// What to run next.
    public var coreCount: Int {
        followsHeat && governor == nil ? Self.coreCount(for: heat, wanted: chosen, among: counts) : chosen
    }

    /// Whether somebody has said what each core count takes.
    public var isMeasured: Bool { expected != nil }

    /// Says what each core count takes on this device, in milliseconds; without it no budget is held.
    public mutating func expect(_ latencies: [Int: Double]) {
        precondition(counts.allSatisfy { latencies[$0] != nil }, "not every core count has a latency")
        expected = latencies
        govern()
    }

    public mutating func choose(_ choice: Choice) {
        switch choice {
        case .fixed(let count):
            precondition(counts.contains(count), "there are no \(count) cores, but \(counts)")
            (chosen, budget, beforeHeat) = (count, nil, nil)
        case .budget(let milliseconds):
            budget = milliseconds
        }
        govern()
    }

    /// Takes the latency of one frame, in milliseconds; see `Governor.observe`.
    public mutating func observe(at count: Int, latency: Double, now: Double) {
        if let next = governor?.observe(at: count, latency: latency, now: now) { chosen = next }
    }

    /// Holds the budget among the core counts that the heat allows: what runs at others tells a governor nothing.
    private mutating func govern() {
        governor = nil
        guard let expected, let budget else { return }
        let isHot = followsHeat && (heat == .serious || heat == .critical)
        beforeHeat = isHot ? beforeHeat ?? chosen : nil
        let most = beforeHeat.map { Self.coreCount(for: heat, wanted: $0, among: counts) } ?? counts.max() ?? chosen
        chosen = min(chosen, most)
        governor = Governor(expected: expected.filter { $0.key <= most }, budget: budget, coreCount: chosen)
    }

    /// The next fewer cores when the heat is serious, the fewest when it is critical.
    static func coreCount(for heat: ProcessInfo.ThermalState, wanted: Int, among counts: [Int]) -> Int {
        let fewer = counts.filter { $0 < wanted }
        switch heat {
        case .serious: return fewer.last ?? wanted
        case .critical: return fewer.first ?? wanted
        default: return wanted
        }
    }
}
