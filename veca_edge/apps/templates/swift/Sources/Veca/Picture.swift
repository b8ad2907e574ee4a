import CoreGraphics
@preconcurrency import CoreVideo
import Foundation

/// Pixels in memory: RGB bytes `[height, width, 3]`.
public struct Picture: Sendable {
    public let rgb: [UInt8]
    public let width: Int
    public let height: Int

    public init(rgb: [UInt8], width: Int, height: Int) {
        precondition(rgb.count == width * height * 3, "\(rgb.count) bytes are not \(width) x \(height) of RGB")
        (self.rgb, self.width, self.height) = (rgb, width, height)
    }

    /// A copy of a frame in 32BGRA, as `Camera` gives them; nil for another format.
    public init?(_ frame: Frame) {
        let buffer = frame.pixelBuffer
        guard CVPixelBufferGetPixelFormatType(buffer) == kCVPixelFormatType_32BGRA else { return nil }
        CVPixelBufferLockBaseAddress(buffer, .readOnly)
        defer { CVPixelBufferUnlockBaseAddress(buffer, .readOnly) }
        guard let base = CVPixelBufferGetBaseAddress(buffer)?.assumingMemoryBound(to: UInt8.self) else { return nil }
        let (width, height) = (CVPixelBufferGetWidth(buffer), CVPixelBufferGetHeight(buffer))
        let stride = CVPixelBufferGetBytesPerRow(buffer)
        let rgb = [UInt8](unsafeUninitializedCapacity: width * height * 3) { bytes, count in
            for y in 0..<height {
                for x in 0..<width {
                    let (from, to) = (base + y * stride + x * 4, (y * width + x) * 3)
                    (bytes[to], bytes[to + 1], bytes[to + 2]) = (from[2], from[1], from[0])
                }
            }
            count = width * height * 3
        }
        self.init(rgb: rgb, width: width, height: height)
    }

    /// The picture for a view.
    public var image: CGImage? {
        guard let provider = CGDataProvider(data: NSData(data: Data(rgb)) as CFData) else { return nil }
        return CGImage(
            width: width, height: height, bitsPerComponent: 8, bitsPerPixel: 24, bytesPerRow: width * 3,
            space: CGColorSpaceCreateDeviceRGB(), bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.none.rawValue),
            provider: provider, decode: nil, shouldInterpolate: true, intent: .defaultIntent)
    }
}
