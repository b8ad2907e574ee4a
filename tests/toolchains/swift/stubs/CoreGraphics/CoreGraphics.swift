// A stand-in for Core Graphics on Linux: what makes an image of bytes. Signatures follow Apple's documentation.
@_exported import CoreVideo

public func CGColorSpaceCreateDeviceRGB() -> CGColorSpace { CGColorSpace() }

public enum CGImageAlphaInfo: UInt32, Sendable { case none, premultipliedLast }
public enum CGColorRenderingIntent: Int32, Sendable { case defaultIntent }
public struct CGBitmapInfo: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
}

public final class CGDataProvider {
    let data: CFData
    public init?(data: CFData) { self.data = data }
}

public final class CGImage {
    public let width: Int, height: Int
    public init?(
        width: Int, height: Int, bitsPerComponent: Int, bitsPerPixel: Int, bytesPerRow: Int, space: CGColorSpace,
        bitmapInfo: CGBitmapInfo, provider: CGDataProvider, decode: UnsafePointer<CGFloat>?, shouldInterpolate: Bool,
        intent: CGColorRenderingIntent
    ) {
        guard bitsPerComponent * 3 == bitsPerPixel, provider.data.length >= bytesPerRow * height else { return nil }
        (self.width, self.height) = (width, height)
    }
}
