// A stand-in for Core Image on Linux: the part that a veca-edge Swift package uses, which converts a frame's pixels.
@_exported import CoreVideo

public struct CIContextOption: Hashable, RawRepresentable, Sendable {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
    public static let workingColorSpace = CIContextOption(rawValue: "working_color_space")
}

public class CIImage {
    public let extent: CGRect
    let buffer: CVPixelBuffer

    public init(cvPixelBuffer: CVPixelBuffer) {
        let (width, height) = (CVPixelBufferGetWidth(cvPixelBuffer), CVPixelBufferGetHeight(cvPixelBuffer))
        extent = CGRect(x: 0, y: 0, width: CGFloat(width), height: CGFloat(height))
        buffer = cvPixelBuffer
    }
}

/// Sendable from the 2025 SDKs on; before, it was not.
public class CIContext: NSObject, @unchecked Sendable {
    public init(options: [CIContextOption: Any]? = nil) {}

    /// Of frames in 32RGBA alone, which the stand-in for Core Video makes for this.
    public func render(_ image: CIImage, to buffer: CVPixelBuffer, bounds: CGRect, colorSpace: CGColorSpace?) {
        let (from, width, height) = (image.buffer, CVPixelBufferGetWidth(buffer), CVPixelBufferGetHeight(buffer))
        precondition(CVPixelBufferGetPixelFormatType(from) == kCVPixelFormatType_32RGBA)
        precondition(bounds == image.extent && Int(bounds.width) == width && Int(bounds.height) == height)
        for y in 0..<height {
            let read = from._base.assumingMemoryBound(to: UInt8.self) + y * CVPixelBufferGetBytesPerRow(from)
            let write = buffer._base.assumingMemoryBound(to: UInt8.self) + y * CVPixelBufferGetBytesPerRow(buffer)
            for x in stride(from: 0, to: 4 * width, by: 4) {
                (write[x], write[x + 1], write[x + 2], write[x + 3]) = (read[x + 2], read[x + 1], read[x], read[x + 3])
            }
        }
    }
}
