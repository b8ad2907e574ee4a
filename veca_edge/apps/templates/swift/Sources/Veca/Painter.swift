@preconcurrency import CoreML

/// What can be shown of a frame.
public enum Show: String, Sendable, CaseIterable {
    case classes, segmentation, depth, pca

    /// The output that it needs.
    var output: String {
        switch self {
        case .classes: return "logits"
        case .segmentation: return "segmentation"
        case .depth: return "depth"
        case .pca: return "dense"
        }
    }

    /// What can be shown of a model: what its tasks say, else its patch features.
    public static func possible(outputs: [String]) -> [Show] {
        let found = allCases.filter { outputs.contains($0.output) }
        let tasks = found.filter { $0 != .pca }
        return tasks.isEmpty ? found : tasks
    }
}

/// What the outputs of a model mean.
public struct Facts: Sendable {
    public let outputs: [String]
    /// Names of the classes in `logits` and in `segmentation`, and the colours of the latter, `0xRRGGBB`.
    public let labels: [String], maskLabels: [String]
    public let palette: [UInt32]
    /// Pixels of a patch, along each side.
    public let patchSize: Int

    public init(outputs: [String], labels: [String], maskLabels: [String], palette: [UInt32], patchSize: Int) {
        (self.outputs, self.labels, self.maskLabels) = (outputs, labels, maskLabels)
        (self.palette, self.patchSize) = (palette, patchSize)
    }
}

/// A painted frame, with the names of what is shown, the most likely or largest first.
public struct Painting: Sendable {
    public let picture: Picture
    public let legend: [LikelyClass]
}

/// Paints predictions on the frames that they are of. Colours mean the same for a whole run.
public struct Painter: Sendable {
    private let facts: Facts
    private let input: (width: Int, height: Int)
    private var range: DepthRange?
    private var basis: PatchBasis?

    /// - Parameter input: width and height of the model's input.
    public init(facts: Facts, input: (width: Int, height: Int)) {
        (self.facts, self.input) = (facts, input)
    }

    /// The frame with what is shown; the frame itself where the model does not give the output.
    public mutating func paint(_ frame: Picture, _ prediction: Prediction, _ show: Show) -> Painting {
        switch show {
        case .classes:
            let logits = prediction.logits?.scalars ?? []
            return Painting(picture: frame, legend: LikelyClass.top(logits, labels: facts.labels))
        case .segmentation:
            guard let map = prediction.segmentation else { break }
            let labels = on(frame, map.shape[1], map.shape[2]).labels(map.scalars.map { Int32($0) })
            let painted = Overlay.masks(frame.rgb, labels, palette: facts.palette)
            return painting(painted, frame, LikelyClass.shares(labels, names: facts.maskLabels))
        case .depth:
            guard let map = prediction.depth else { break }
            let metres = on(frame, map.shape[1], map.shape[2]).values(map.scalars)
            range = range ?? DepthRange(of: metres)
            if let range { return painting(Overlay.depth(frame.rgb, metres, range: range), frame) }
        case .pca:
            guard let features = prediction.dense else { break }
            let axes = basis ?? PatchBasis(of: features.scalars, width: features.shape[2])
            basis = axes
            let map = on(frame, input.height / facts.patchSize, input.width / facts.patchSize)
            return painting(Overlay.colours(frame.rgb, map.values(axes.colours(features.scalars), channels: 3)), frame)
        }
        return Painting(picture: frame, legend: [])
    }

    private func on(_ frame: Picture, _ rows: Int, _ columns: Int) -> FrameMap {
        FrameMap(frame: (frame.width, frame.height), input: input, rows: rows, columns: columns)
    }

    private func painting(_ rgb: [UInt8], _ frame: Picture, _ legend: [LikelyClass] = []) -> Painting {
        Painting(picture: Picture(rgb: rgb, width: frame.width, height: frame.height), legend: legend)
    }
}
