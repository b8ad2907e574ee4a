/// Axes of patch features, one for red, green and blue each, and the values that are black and full. One basis for a
/// whole run keeps colours from flickering.
public struct PatchBasis: Sendable {
    let mean: [Float]
    /// Three of the features' width; the first holds most of what differs between patches.
    let axes: [[Float]]
    let low: [Float], high: [Float]

    init(mean: [Float], axes: [[Float]], low: [Float], high: [Float]) {
        (self.mean, self.axes, self.low, self.high) = (mean, axes, low, high)
    }

    /// The three main components of patches `[patches, width]`, which are finite.
    public init(of features: [Float], width: Int) {
        let patches = features.count / width
        precondition(patches > 0 && patches * width == features.count, "\(features.count) values are no patches")
        var sums = [Double](repeating: 0, count: width)
        for (i, feature) in features.enumerated() { sums[i % width] += Double(feature) }
        let mean: [Float] = sums.map { Float($0 / Double(patches)) }
        let axes = Self.mainAxes(features, mean, patches)
        let ends: [[Float]] = axes.map { axis in
            let values: [Float] = (0..<patches).map { Self.along(features, $0, mean, axis) }
            return values.sorted()
        }
        self.init(
            mean: mean, axes: axes, low: ends.map { percentile($0, 0.01) }, high: ends.map { percentile($0, 0.99) })
    }

    /// Colours of patches `[patches, width]`: `[patches, 3]`, 0 to 255.
    public func colours(_ features: [Float]) -> [Float] {
        var made: [Float] = []
        for patch in 0..<features.count / mean.count {
            for (c, axis) in axes.enumerated() {
                let width = high[c] - low[c]
                // An axis along which nothing differs is grey.
                let share = width > 0 ? (Self.along(features, patch, mean, axis) - low[c]) / width : 0.5
                made.append(255 * min(max(share, 0), 1))
            }
        }
        return made
    }

    /// Subspace iteration: the three directions are multiplied by the covariance and made orthogonal, repeatedly.
    private static func mainAxes(_ features: [Float], _ mean: [Float], _ patches: Int) -> [[Float]] {
        let width = mean.count
        let centred: [Double] = features.enumerated().map { Double($0.element - mean[$0.offset % width]) }
        var axes = [[Double]](repeating: [Double](repeating: 0, count: width), count: 3)
        for i in 0..<width { axes[i % 3][i] = 1 + Double(i) / Double(2 * width) }
        for _ in 0..<60 {
            for c in 0..<3 {
                var next = [Double](repeating: 0, count: width)
                for start in stride(from: 0, to: patches * width, by: width) {
                    var product = 0.0
                    for i in 0..<width { product += centred[start + i] * axes[c][i] }
                    for i in 0..<width { next[i] += product * centred[start + i] }
                }
                axes[c] = next
            }
            orthonormalise(&axes)
        }
        // An axis and its opposite are equally good: the larger entry is positive, so that runs agree.
        return axes.map { axis -> [Float] in
            let largest: Double = axis.max { abs($0) < abs($1) } ?? 0
            let sign: Double = largest < 0 ? -1 : 1
            return axis.map { Float(sign * $0) }
        }
    }

    private static func orthonormalise(_ axes: inout [[Double]]) {
        // What rounding leaves of a direction that does not exist is no direction.
        let lengths: [Double] = axes.map { dot($0, $0).squareRoot() }
        let least = 1e-9 * (lengths.max() ?? 0)
        for c in axes.indices {
            for other in axes[..<c] {
                let product = dot(axes[c], other)
                for i in other.indices { axes[c][i] -= product * other[i] }
            }
            let length = dot(axes[c], axes[c]).squareRoot()
            axes[c] = axes[c].map { length > least ? $0 / length : 0 }
        }
    }

    private static func dot(_ a: [Double], _ b: [Double]) -> Double {
        var sum = 0.0
        for i in a.indices { sum += a[i] * b[i] }
        return sum
    }

    private static func along(_ features: [Float], _ patch: Int, _ mean: [Float], _ axis: [Float]) -> Float {
        var sum: Float = 0
        for i in mean.indices { sum += (features[patch * mean.count + i] - mean[i]) * axis[i] }
        return sum
    }
}
