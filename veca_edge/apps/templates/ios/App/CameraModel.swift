import Foundation
import Observation
import Veca

/// What the screen shows and what it can ask for. Frames run on actors of their own; this is the main thread's part.
@MainActor
@Observable
final class CameraModel {
    let shows = Show.possible(outputs: Facts.declared.outputs)
    private(set) var shown: Shown?
    private(set) var message: String?
    private(set) var heat = ProcessInfo.processInfo.thermalState
    private(set) var isMeasuring = false
    private(set) var choice = Choice.fixed(Variant.defaultCoreCount)
    var show: Show?
    var followsHeat = true { didSet { tellHeat() } }

    private var pipeline: Pipeline?

    init() { show = shows.first }

    /// Runs until the view goes away.
    func run() async {
        do {
            guard await Camera.isAllowed() else {
                message = "Without the camera there is nothing to see. Allow it in Settings."
                return
            }
            let pipeline = try await Pipeline(facts: .declared)
            self.pipeline = pipeline
            if choice != .fixed(Variant.defaultCoreCount) { choose(choice) }  // made before there was anything to tell
            let camera = Camera()
            try await camera.start()
            let watch = Task { await watchHeat() }
            for await frame in camera.frames {
                guard !Task.isCancelled, let show else { break }
                do {
                    shown = try await pipeline.run(frame, show) ?? shown
                } catch {
                    message = "\(error)"  // of this frame, or of a core count that can't be loaded: the next ones go on
                }
            }
            watch.cancel()
            await camera.stop()
        } catch {
            message = "\(error)"
        }
    }

    func choose(_ choice: Choice) {
        self.choice = choice
        guard let pipeline else { return }
        Task {
            isMeasuring = true
            defer { isMeasuring = false }
            do {
                try await pipeline.choose(choice)
            } catch {
                message = "\(error)"
            }
        }
    }

    private func watchHeat() async {
        let changes = NotificationCenter.default.notifications(named: ProcessInfo.thermalStateDidChangeNotification)
        tellHeat()
        for await _ in changes.map({ _ in () }) { tellHeat() }
    }

    private func tellHeat() {
        heat = ProcessInfo.processInfo.thermalState
        guard let pipeline else { return }
        Task { [heat, followsHeat] in await pipeline.set(heat: heat, followsHeat: followsHeat) }
    }
}
