import AVFoundation
import Veca

/// Runs the model on the newest frame of a camera, in an app in Swift 6 mode.
final class CameraReader: NSObject, AVCaptureVideoDataOutputSampleBufferDelegate {
    private let veca: Veca
    private let frames: AsyncStream<Frame>
    private let arrived: AsyncStream<Frame>.Continuation

    init(_ veca: Veca) {
        self.veca = veca
        // The newest frame waits; the camera gets the buffers of older ones back.
        (frames, arrived) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    func captureOutput(
        _ output: AVCaptureOutput, didOutput sampleBuffer: CMSampleBuffer, from connection: AVCaptureConnection
    ) {
        guard let buffer = CMSampleBufferGetImageBuffer(sampleBuffer) else { return }
        arrived.yield(Frame(buffer))
    }

    func predictions(_ show: @escaping @Sendable (Prediction) -> Void) -> Task<Void, any Error> {
        Task { [veca, frames] in
            for await frame in frames {
                show(try await veca.predict(frame))
            }
        }
    }
}
