import AVFoundation
import Veca

/// What Swift 6 mode refuses, and why there is `Frame`.
final class BareBuffer: NSObject, AVCaptureVideoDataOutputSampleBufferDelegate {
    private let veca: Veca

    init(_ veca: Veca) {
        self.veca = veca
    }

    func captureOutput(
        _ output: AVCaptureOutput, didOutput sampleBuffer: CMSampleBuffer, from connection: AVCaptureConnection
    ) {
        guard let buffer = CMSampleBufferGetImageBuffer(sampleBuffer) else { return }
        Task { [veca] in _ = try await veca.predict(buffer) }
    }
}
