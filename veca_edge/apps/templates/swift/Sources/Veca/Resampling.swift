@preconcurrency import CoreVideo
import Foundation

/// How a box of a frame gets another size.
enum Interpolation {
    /// Pillow's bicubic, to the bit: weights of 22 binary places, along rows, then along columns, bytes between them.
    case bicubic
    /// The same, after halving while the box is at least four times as wide and as high as what it becomes.
    case halved

    /// How often a box is halved on its way to a size.
    func halvings(_ box: CGSize, to size: CGSize) -> Int {
        guard self == .halved else { return 0 }
        var times = 0
        while box.width >= CGFloat(4 << times) * size.width && box.height >= CGFloat(4 << times) * size.height {
            times += 1
        }
        return times
    }
}

/// Blue, green, red and alpha of a pixel in 32BGRA.
private typealias Pixel = SIMD4<UInt8>

/// Brings frames to a model's size as calibration did, to the bit. It keeps its tables while the frames' size stays.
final class FramePreparer {
    private let input: CGSize
    private let preparation: Preparation
    private var kept: (frame: CGSize, resampling: Resampling)?

    init(width: Int, height: Int, _ preparation: Preparation = .declared) {
        input = CGSize(width: CGFloat(width), height: CGFloat(height))
        self.preparation = preparation
    }

    /// A frame in 32BGRA at the model's size: itself where it is that already.
    func prepared(_ frame: CVPixelBuffer) throws -> CVPixelBuffer {
        let size = CGSize(
            width: CGFloat(CVPixelBufferGetWidth(frame)), height: CGFloat(CVPixelBufferGetHeight(frame)))
        let resampling = resampling(of: size)
        if resampling.changesNothing { return frame }
        let made = try Veca.pixelBuffer(Int(input.width), Int(input.height))
        CVPixelBufferLockBaseAddress(frame, .readOnly)
        CVPixelBufferLockBaseAddress(made, [])
        defer {
            CVPixelBufferUnlockBaseAddress(made, [])
            CVPixelBufferUnlockBaseAddress(frame, .readOnly)
        }
        guard let from = CVPixelBufferGetBaseAddress(frame), let to = CVPixelBufferGetBaseAddress(made) else {
            throw VecaError.pixelBuffer(kCVReturnInvalidArgument)
        }
        let rows = (from: CVPixelBufferGetBytesPerRow(frame), to: CVPixelBufferGetBytesPerRow(made))
        if resampling.leavesPadding { fill(to, rows.to) }
        resampling.run(from, rows.from, to, rows.to)
        return made
    }

    private func resampling(of frame: CGSize) -> Resampling {
        if let kept, kept.frame == frame { return kept.resampling }
        let geometry = FrameGeometry(frame: frame, input: input, preparation)
        let made = Resampling(geometry, frame: frame, input: input, preparation.interpolation)
        kept = (frame, made)
        return made
    }

    private func fill(_ to: UnsafeMutableRawPointer, _ stride: Int) {
        let (red, green, blue) = preparation.padding
        let pixel = Pixel(UInt8(blue), UInt8(green), UInt8(red), 255)
        for y in 0..<Int(input.height) {
            for x in 0..<Int(input.width) {
                to.storeBytes(of: pixel, toByteOffset: y * stride + x * 4, as: Pixel.self)
            }
        }
    }
}

/// Resizes the box `cut` of a frame; of the result only what lies in the input is made.
private final class Resampling {
    let changesNothing: Bool
    let leavesPadding: Bool

    private let left: Int, top: Int, width: Int, height: Int
    private let halvings: Int
    private let columns: Axis, rows: Axis
    private var narrow: [Pixel]

    init(_ geometry: FrameGeometry, frame: CGSize, input: CGSize, _ interpolation: Interpolation) {
        let (cut, laid, whole) = (geometry.cut, geometry.laid, CGRect(origin: .zero, size: input))
        changesNothing = frame == input && cut == whole && laid == whole
        leavesPadding = laid.width < input.width || laid.height < input.height
        (left, top, width, height) = (Int(cut.minX), Int(cut.minY), Int(cut.width), Int(cut.height))
        let times = interpolation.halvings(cut.size, to: laid.size)
        halvings = times
        func axis(_ cut: CGFloat, _ laid: CGFloat, _ place: CGFloat, _ input: CGFloat) -> Axis {
            let pixels = (0..<times).reduce(Int(cut)) { side, _ in (side + 1) / 2 }
            let results = max(0, -Int(place))..<min(Int(laid), Int(input - place))
            return Axis(pixels, Double(cut) / Double(1 << times), Int(laid), results, at: max(0, Int(place)))
        }
        columns = axis(cut.width, laid.width, laid.minX, input.width)
        rows = axis(cut.height, laid.height, laid.minY, input.height)
        narrow = Array(repeating: Pixel(), count: rows.needed.count * columns.count)
    }

    /// Reads and writes 32BGRA; the strides are in bytes.
    func run(_ from: UnsafeRawPointer, _ stride: Int, _ to: UnsafeMutableRawPointer, _ toStride: Int) {
        let box = from + top * stride + left * 4
        guard halvings > 0 else { return resize(box, stride, to, toStride) }
        var half = Self.halved(box, stride, width, height)
        var (across, down) = ((width + 1) / 2, (height + 1) / 2)
        for _ in 1..<halvings {
            half = half.withUnsafeBytes { Self.halved($0.baseAddress!, across * 4, across, down) }
            (across, down) = ((across + 1) / 2, (down + 1) / 2)
        }
        half.withUnsafeBytes { resize($0.baseAddress!, across * 4, to, toStride) }
    }

    /// Means of four pixels; a last odd row or column is taken twice.
    private static func halved(_ from: UnsafeRawPointer, _ stride: Int, _ width: Int, _ height: Int) -> [Pixel] {
        let (across, down) = ((width + 1) / 2, (height + 1) / 2)
        return [Pixel](unsafeUninitializedCapacity: across * down) { made, count in
            for y in 0..<down {
                let upper = from + 2 * y * stride
                let lower = from + min(2 * y + 1, height - 1) * stride
                for x in 0..<across {
                    let (one, other) = (8 * x, min(2 * x + 1, width - 1) * 4)
                    let sum = wide(upper, one) &+ wide(upper, other) &+ wide(lower, one) &+ wide(lower, other)
                    made[y * across + x] = Pixel(truncatingIfNeeded: (sum &+ 2) &>> 2)
                }
            }
            count = across * down
        }
    }

    private func resize(
        _ from: UnsafeRawPointer, _ stride: Int, _ to: UnsafeMutableRawPointer, _ toStride: Int
    ) {
        let count = columns.count
        narrow.withUnsafeMutableBufferPointer { narrow in
            for (i, y) in rows.needed.enumerated() {
                let row = from + y * stride
                for x in 0..<count {
                    narrow[i * count + x] = columns.weighed(x) { wide(row, $0 * 4) }
                }
            }
            for y in 0..<rows.count {
                let target = to + (rows.place + y) * toStride + columns.place * 4
                for x in 0..<count {
                    var pixel = rows.weighed(y) { wide(narrow[($0 - rows.needed.lowerBound) * count + x]) }
                    pixel.w = 255
                    target.storeBytes(of: pixel, toByteOffset: x * 4, as: Pixel.self)
                }
            }
        }
    }
}

@inline(__always)
private func wide(_ from: UnsafeRawPointer, _ offset: Int) -> SIMD4<Int32> {
    wide(from.loadUnaligned(fromByteOffset: offset, as: Pixel.self))
}

@inline(__always)
private func wide(_ pixel: Pixel) -> SIMD4<Int32> { SIMD4<Int32>(truncatingIfNeeded: pixel) }

/// Weights of one axis: a result is made of the pixels from `first` on.
private struct Axis {
    /// How many results are made, and where in the input the first of them lies.
    let count: Int, place: Int
    /// The pixels that any result needs.
    let needed: Range<Int>
    private let first: [Int]
    /// Of all results, one after the other; those of result `i` begin at `begins[i]`.
    private let weights: [Int32]
    private let begins: [Int]

    private static let bits: Int32 = 22
    private static let support = 2.0

    /// - Parameter extent: of the pixels, which may end in the middle of the last one.
    init(_ pixels: Int, _ extent: Double, _ size: Int, _ results: Range<Int>, at place: Int) {
        let scale = extent / Double(size)
        let stretch = max(scale, 1)
        var (first, weights, begins) = ([Int](), [Int32](), [0])
        var end = 0
        for result in results {
            let middle = (Double(result) + 0.5) * scale
            let begin = max(0, Int(middle - Self.support * stretch + 0.5))
            end = min(pixels, Int(middle + Self.support * stretch + 0.5))
            let shares = (begin..<end).map { pixel in
                Self.cubic((Double(pixel - begin) + Double(begin) - middle + 0.5) * (1 / stretch))
            }
            let sum = shares.reduce(0, +)
            first.append(begin)
            weights += shares.map { Self.whole($0 / sum) }
            begins.append(weights.count)
        }
        (self.place, count) = (place, results.count)
        (self.first, self.weights, self.begins) = (first, weights, begins)
        needed = first[0]..<end
    }

    /// One result, of the pixels that `read` gives.
    @inline(__always)
    func weighed(_ result: Int, _ read: (Int) -> SIMD4<Int32>) -> SIMD4<UInt8> {
        var sum = SIMD4<Int32>(repeating: 1 << (Self.bits - 1))
        let (begin, pixel) = (begins[result], first[result])
        for tap in begin..<begins[result + 1] {
            sum &+= read(pixel + tap - begin) &* weights[tap]
        }
        return SIMD4<UInt8>(truncatingIfNeeded: (sum &>> Self.bits).clamped(
            lowerBound: SIMD4(repeating: 0), upperBound: SIMD4(repeating: 255)))
    }

    private static func whole(_ share: Double) -> Int32 {
        Int32(share * Double(Int32(1) << bits) + (share < 0 ? -0.5 : 0.5))
    }

    private static func cubic(_ at: Double) -> Double {
        let (x, a) = (abs(at), -0.5)
        if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
        if x < 2 { return (((x - 5) * x + 8) * x - 4) * a }
        return 0
    }
}
