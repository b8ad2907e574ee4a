import Foundation

/// A class and its probability or share, 0 to 1.
public struct LikelyClass: Sendable, Equatable {
    public let name: String
    public let share: Double

    /// The most likely classes, best first.
    ///
    /// - Parameters:
    ///   - logits: a score for each class.
    ///   - labels: their names; without one, a class is called by its number.
    public static func top(_ logits: [Float], labels: [String], most: Int = 5) -> [LikelyClass] {
        let largest = logits.max() ?? 0
        let likely: [Double] = logits.map { exp(Double($0 - largest)) }
        let sum = likely.reduce(0, +)
        let order: [Int] = likely.indices.sorted { likely[$0] > likely[$1] || likely[$0] == likely[$1] && $0 < $1 }
        return order.prefix(most).map { LikelyClass(name: name($0, labels), share: likely[$0] / sum) }
    }

    /// The classes of a label map, the largest first, with their shares of what has a class.
    public static func shares(_ labels: [Int32], names: [String]) -> [LikelyClass] {
        var counts: [Int32: Int] = [:]
        for label in labels where label >= 0 { counts[label, default: 0] += 1 }
        let all = Double(counts.values.reduce(0, +))
        let order: [Int32] = counts.keys.sorted { (a: Int32, b: Int32) -> Bool in
            let (first, second): (Int, Int) = (counts[a] ?? 0, counts[b] ?? 0)
            return first > second || first == second && a < b
        }
        return order.map { LikelyClass(name: name(Int($0), names), share: Double(counts[$0] ?? 0) / all) }
    }

    private static func name(_ index: Int, _ names: [String]) -> String {
        names.indices.contains(index) ? names[index] : String(index)
    }
}
