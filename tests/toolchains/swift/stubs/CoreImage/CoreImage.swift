// A stand-in for Core Image on Linux: the part that a veca-edge Swift package uses, on the CPU.
// Images have their origin at the bottom left, as Core Image's have. Beside their extent they are transparent black.
@_exported import CoreVideo

public struct CIContextOption: Hashable, RawRepresentable, Sendable {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
    public static let workingColorSpace = CIContextOption(rawValue: "working_color_space")
}

public let kCIInputScaleKey = "inputScale"
public let kCIInputAspectRatioKey = "inputAspectRatio"

/// Components as they are: nothing here manages colours.
public class CIColor {
    let pixel: CIImage.Pixel
    public init(red r: CGFloat, green g: CGFloat, blue b: CGFloat) {
        pixel = (Float(r * 255), Float(g * 255), Float(b * 255))
    }
}

public class CIImage {
    typealias Pixel = (Float, Float, Float)
    public let extent: CGRect
    private let inside: (Int, Int) -> Pixel

    init(extent: CGRect, inside: @escaping (Int, Int) -> Pixel) {
        self.extent = extent
        self.inside = inside
    }

    func pixel(_ x: Int, _ y: Int) -> Pixel {
        extent.contains(CGPoint(x: Double(x) + 0.5, y: Double(y) + 0.5)) ? inside(x, y) : (0, 0, 0)
    }

    public init(cvPixelBuffer: CVPixelBuffer) {
        let (width, height) = (CVPixelBufferGetWidth(cvPixelBuffer), CVPixelBufferGetHeight(cvPixelBuffer))
        extent = CGRect(x: 0, y: 0, width: CGFloat(width), height: CGFloat(height))
        let stride = CVPixelBufferGetBytesPerRow(cvPixelBuffer)
        inside = { x, y in
            let at = cvPixelBuffer._base.assumingMemoryBound(to: UInt8.self) + (height - 1 - y) * stride + x * 4
            return (Float(at[2]), Float(at[1]), Float(at[0]))
        }
    }

    /// One colour without end.
    public convenience init(color: CIColor) {
        self.init(extent: CGRect(x: -1e6, y: -1e6, width: 2e6, height: 2e6)) { _, _ in color.pixel }
    }

    public func cropped(to rect: CGRect) -> CIImage {
        CIImage(extent: extent.intersection(rect)) { [self] in pixel($0, $1) }
    }

    /// Every image here is opaque within its extent.
    public func composited(over dest: CIImage) -> CIImage {
        CIImage(extent: extent.union(dest.extent)) { [self] x, y in
            let inside = extent.contains(CGPoint(x: Double(x) + 0.5, y: Double(y) + 0.5))
            return inside ? pixel(x, y) : dest.pixel(x, y)
        }
    }

    /// Repeats the edge pixels without end.
    public func clampedToExtent() -> CIImage {
        let (xs, ys) = (Int(extent.minX)...Int(extent.maxX) - 1, Int(extent.minY)...Int(extent.maxY) - 1)
        return CIImage(extent: CGRect(x: -1e6, y: -1e6, width: 2e6, height: 2e6)) { [self] x, y in
            pixel(min(max(x, xs.lowerBound), xs.upperBound), min(max(y, ys.lowerBound), ys.upperBound))
        }
    }

    /// Only CILanczosScaleTransform, as a mean over the pixels that fall into one and those around them.
    public func applyingFilter(_ filterName: String, parameters params: [String: Any]) -> CIImage {
        precondition(filterName == "CILanczosScaleTransform", "\(filterName) is not in the stand-in")
        precondition(Set(params.keys).isSubset(of: [kCIInputScaleKey, kCIInputAspectRatioKey]))
        let scale = params[kCIInputScaleKey] as! CGFloat
        let across = scale * (params[kCIInputAspectRatioKey] as? CGFloat ?? 1)
        // Core Image rounds the extent of a Lanczos scale outwards.
        let to = CGRect(x: (extent.minX * across).rounded(.down), y: (extent.minY * scale).rounded(.down),
                        width: (extent.width * across).rounded(.up), height: (extent.height * scale).rounded(.up))
        func window(_ place: Int, _ scale: CGFloat) -> ClosedRange<Int> {
            let back = Double(1 / scale)
            let (first, last) = (Double(place) * back, Double(place + 1) * back)
            return Int(first.rounded(.down)) - 1...Int(last.rounded(.up))
        }
        return CIImage(extent: to) { [self] x, y in
            let (xs, ys) = (window(x, across), window(y, scale))
            var sum: Pixel = (0, 0, 0)
            for j in ys { for i in xs { let p = pixel(i, j); sum.0 += p.0; sum.1 += p.1; sum.2 += p.2 } }
            let n = Float(xs.count * ys.count)
            return (sum.0 / n, sum.1 / n, sum.2 / n)
        }
    }

    public func transformed(by matrix: CGAffineTransform) -> CIImage {
        precondition(matrix.a == 1 && matrix.d == 1 && matrix.b == 0 && matrix.c == 0, "translations only")
        let (dx, dy) = (Int(matrix.tx), Int(matrix.ty))
        precondition(CGFloat(dx) == matrix.tx && CGFloat(dy) == matrix.ty, "a translation between pixels would blur")
        return CIImage(extent: CGRect(x: extent.minX + matrix.tx, y: extent.minY + matrix.ty,
                                      width: extent.width, height: extent.height)) { [self] in pixel($0 - dx, $1 - dy) }
    }
}

/// Sendable from the 2025 SDKs on; before, it was not.
public class CIContext: NSObject, @unchecked Sendable {
    public init(options: [CIContextOption: Any]? = nil) {}

    public func render(_ image: CIImage, to buffer: CVPixelBuffer, bounds: CGRect, colorSpace: CGColorSpace?) {
        precondition(image.extent.contains(bounds), "\(bounds) is not within the image's \(image.extent)")
        let (width, height, stride) = (Int(bounds.width), Int(bounds.height), CVPixelBufferGetBytesPerRow(buffer))
        precondition(width == CVPixelBufferGetWidth(buffer) && height == CVPixelBufferGetHeight(buffer))
        for y in 0..<height {
            for x in 0..<width {
                let p = image.pixel(x + Int(bounds.minX), height - 1 - y + Int(bounds.minY))
                let at = buffer._base.assumingMemoryBound(to: UInt8.self) + y * stride + x * 4
                (at[0], at[1], at[2], at[3]) = (UInt8(p.2.rounded()), UInt8(p.1.rounded()), UInt8(p.0.rounded()), 255)
            }
        }
    }
}
