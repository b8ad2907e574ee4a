import Foundation

/// Where a map of the model's input lies on a frame: for the pixels that the model saw, which cells show them.
public struct FrameMap: Sendable {
    /// One axis: `seen` are the frame's pixels that the model saw, the rest is of each of them.
    private struct Axis: Sendable {
        let seen: Range<Int>
        let nearest: [Int], lower: [Int], upper: [Int]
        let share: [Float]

        /// The box of the frame from `cut` on, of `extent`, is what lies in the input from `laid` on, of `covered`.
        init(frame: Int, input: Int, cut: Double, extent: Double, laid: Double, covered: Double, cells: Int) {
            func place(_ pixel: Int) -> Double {
                let from: Double = Double(pixel) + 0.5 - cut
                return laid + from * covered / extent
            }
            let (first, last) = (max(0, Int(cut.rounded(.up))), min(frame, Int((cut + extent).rounded(.down))))
            let inside: [Int] = (first..<max(first, last)).filter { place($0) >= 0 && place($0) < Double(input) }
            seen = inside.isEmpty ? 0..<0 : inside[0]..<inside[inside.count - 1] + 1
            // The cells whose centres show the frame; where none does, the one that shows the most of it.
            let (across, size): (Double, Double) = (Double(cells), Double(input))
            let start: Double = max(0, laid) * across / size
            let stop: Double = min(size, laid + covered) * across / size
            var (low, high) = (Int((start - 0.5).rounded(.up)), Int((stop - 0.5).rounded(.down)))
            if low > high {
                low = min(cells - 1, Int((start + stop) / 2))
                high = low
            }
            var nearest: [Int] = [], lower: [Int] = [], upper: [Int] = [], share: [Float] = []
            for pixel in inside {
                let at: Double = place(pixel) * across / size
                let between = min(max(at - 0.5, Double(low)), Double(high))
                let below = min(Int(between), high)
                nearest.append(min(max(Int(at), low), high))
                lower.append(below)
                upper.append(min(below + 1, high))
                share.append(Float(between - Double(below)))
            }
            (self.nearest, self.lower, self.upper, self.share) = (nearest, lower, upper, share)
        }
    }

    private let width: Int, height: Int
    private let rows: Int, columns: Int
    private let vertical: Axis, horizontal: Axis

    /// - Parameters:
    ///   - frame: width and height of the frame in pixels.
    ///   - input: width and height of the model's input.
    ///   - rows: cells of the map from top to bottom.
    ///   - columns: cells of the map from left to right.
    public init(frame: (width: Int, height: Int), input: (width: Int, height: Int), rows: Int, columns: Int) {
        self.init(frame: frame, input: input, rows: rows, columns: columns, .declared)
    }

    init(
        frame: (width: Int, height: Int), input: (width: Int, height: Int), rows: Int, columns: Int,
        _ preparation: Preparation
    ) {
        (width, height, self.rows, self.columns) = (frame.width, frame.height, rows, columns)
        let boxes = FrameGeometry(
            frame: CGSize(width: CGFloat(frame.width), height: CGFloat(frame.height)),
            input: CGSize(width: CGFloat(input.width), height: CGFloat(input.height)), preparation)
        vertical = Axis(
            frame: frame.height, input: input.height, cut: boxes.cut.minY, extent: boxes.cut.height,
            laid: boxes.laid.minY, covered: boxes.laid.height, cells: rows)
        horizontal = Axis(
            frame: frame.width, input: input.width, cut: boxes.cut.minX, extent: boxes.cut.width,
            laid: boxes.laid.minX, covered: boxes.laid.width, cells: columns)
    }

    /// The labels `[rows, columns]` on the frame's pixels `[height, width]`; -1 where the model saw nothing.
    public func labels(_ map: [Int32]) -> [Int32] {
        precondition(map.count == rows * columns, "a map of \(map.count) cells is not \(rows) x \(columns)")
        var made = [Int32](repeating: -1, count: width * height)
        for y in vertical.seen {
            let row = vertical.nearest[y - vertical.seen.lowerBound] * columns
            for x in horizontal.seen {
                made[y * width + x] = map[row + horizontal.nearest[x - horizontal.seen.lowerBound]]
            }
        }
        return made
    }

    /// Values `[rows, columns, channels]` on the frame's pixels, linearly between the centres of cells; nan where the
    /// model saw nothing.
    public func values(_ map: [Float], channels: Int = 1) -> [Float] {
        precondition(map.count == rows * columns * channels, "\(map.count) values are not \(rows) x \(columns)")
        var made = [Float](repeating: .nan, count: width * height * channels)
        let across = horizontal.seen.count * channels
        // Every row of cells once: a frame has many more rows.
        var wide = [Float](repeating: 0, count: rows * across)
        for row in 0..<rows {
            for i in 0..<horizontal.seen.count {
                let share = horizontal.share[i]
                let lower = (row * columns + horizontal.lower[i]) * channels
                let upper = (row * columns + horizontal.upper[i]) * channels
                for c in 0..<channels {
                    let (left, right): (Float, Float) = (map[lower + c], map[upper + c])
                    wide[row * across + i * channels + c] = left * (1 - share) + right * share
                }
            }
        }
        for y in vertical.seen {
            let i = y - vertical.seen.lowerBound
            let share = vertical.share[i]
            let (lower, upper) = (vertical.lower[i] * across, vertical.upper[i] * across)
            let to = (y * width + horizontal.seen.lowerBound) * channels
            for x in 0..<across {
                let (above, below): (Float, Float) = (wide[lower + x], wide[upper + x])
                made[to + x] = above * (1 - share) + below * share
            }
        }
        return made
    }
}
