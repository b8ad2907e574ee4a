/// Metres at the two ends of a colour scale; one for a whole run keeps colours from flickering.
public struct DepthRange: Sendable, Equatable {
    public let near: Float
    public let far: Float

    public init(near: Float, far: Float) { (self.near, self.far) = (near, far) }

    /// The range of a frame's depths, without the 2% that are nearest and farthest; nil where none is known.
    public init?(of metres: [Float]) {
        let known = metres.filter(\.isFinite).sorted()
        guard !known.isEmpty else { return nil }
        self.init(near: percentile(known, 0.02), far: percentile(known, 0.98))
    }
}

/// What a model says, blended over the frame that it saw. Frames are RGB bytes `[height, width, 3]`, maps are those of
/// `FrameMap`, so that pixels that the model did not see stay as they are.
public enum Overlay {
    // Yellow to blue through green: even steps look even, in grey and to the colour-blind too.
    private static let ramp: [[Double]] = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]]

    /// Coloured masks; negative labels are no class.
    ///
    /// - Parameter palette: `0xRRGGBB` of each class.
    public static func masks(_ frame: [UInt8], _ labels: [Int32], palette: [UInt32]) -> [UInt8] {
        precondition(labels.count * 3 == frame.count, "\(labels.count) labels are not those of the frame's pixels")
        var made = frame
        for (i, label) in labels.enumerated() where label >= 0 {
            let colour = palette[Int(label)]
            blend(&made[i * 3], Float(colour >> 16 & 0xff), 0.55)
            blend(&made[i * 3 + 1], Float(colour >> 8 & 0xff), 0.55)
            blend(&made[i * 3 + 2], Float(colour & 0xff), 0.55)
        }
        return made
    }

    /// Depth as colours, near bright and far dark; nan leaves the frame.
    public static func depth(_ frame: [UInt8], _ metres: [Float], range: DepthRange) -> [UInt8] {
        precondition(metres.count * 3 == frame.count, "\(metres.count) depths are not those of the frame's pixels")
        var made = frame
        let width = range.far > range.near ? range.far - range.near : 1
        for (i, depth) in metres.enumerated() where depth.isFinite {
            let near = 1 - (depth - range.near) / width
            for c in 0..<3 { blend(&made[i * 3 + c], ramped(near, c), 0.8) }
        }
        return made
    }

    /// Colours `[height, width, 3]`, 0 to 255, such as those of `PatchBasis`; nan leaves the frame.
    public static func colours(_ frame: [UInt8], _ colours: [Float]) -> [UInt8] {
        precondition(colours.count == frame.count, "\(colours.count) colours are not those of the frame's pixels")
        var made = frame
        for (i, colour) in colours.enumerated() where colour.isFinite { blend(&made[i], colour, 0.85) }
        return made
    }

    private static func ramped(_ value: Float, _ channel: Int) -> Float {
        let at = Double(min(max(value, 0), 1)) * Double(ramp.count - 1)
        let lower = min(Int(at), ramp.count - 2)
        let (from, to) = (ramp[lower][channel], ramp[lower + 1][channel])
        let mixed = from + (at - Double(lower)) * (to - from)
        return Float(mixed.rounded(.toNearestOrEven))
    }

    private static func blend(_ pixel: inout UInt8, _ colour: Float, _ opacity: Float) {
        pixel = UInt8((Float(pixel) * (1 - opacity) + colour * opacity).rounded(.toNearestOrEven))
    }
}

/// Linearly between the values around it.
func percentile(_ ordered: [Float], _ share: Double) -> Float {
    let at = share * Double(ordered.count - 1)
    let lower = Int(at)
    let (from, to) = (Double(ordered[lower]), Double(ordered[min(lower + 1, ordered.count - 1)]))
    return Float(from + (to - from) * (at - Double(lower)))
}
