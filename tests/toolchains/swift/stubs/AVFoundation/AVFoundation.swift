// A stand-in for AVFoundation and Core Media on Linux: what a camera's delegate gets.
@_exported import CoreVideo

/// Not Sendable: CMSampleBuffer.h says CM_SWIFT_NONSENDABLE.
public final class CMSampleBuffer {
    let image: CVImageBuffer?
    init(_ image: CVImageBuffer?) { self.image = image }
}
@available(*, unavailable)
extension CMSampleBuffer: Sendable {}

public func CMSampleBufferGetImageBuffer(_ sbuf: CMSampleBuffer) -> CVImageBuffer? { sbuf.image }

open class AVCaptureOutput: NSObject {}
open class AVCaptureConnection: NSObject {}

public protocol AVCaptureVideoDataOutputSampleBufferDelegate: NSObjectProtocol {
    func captureOutput(
        _ output: AVCaptureOutput, didOutput sampleBuffer: CMSampleBuffer, from connection: AVCaptureConnection)
}
