@preconcurrency import CoreML
@preconcurrency import CoreVideo
import Foundation

/// Milliseconds of the stages of one frame.
public struct StageTimes: Sendable {
    /// Bringing the frame to the model's size, and the model itself.
    public let model: Double
    public let paint: Double
}

/// One frame with what the model says of it.
public struct Shown: Sendable {
    public let painting: Painting
    public let coreCount: Int
    public let times: StageTimes
}

/// From a camera's frames to pictures of the task, at the core count that `CoreControl` chooses.
public actor Pipeline {
    private let veca: Veca
    private var control: CoreControl
    private var painter: Painter
    private var change: Task<Void, any Error>?
    private var failure: (any Error)?
    /// A core count that could not be loaded; it is not tried again before another one was wanted.
    private var refused: Int?
    private var choices = 0

    public init(facts: Facts) async throws {
        veca = try await Veca()
        painter = Painter(facts: facts, input: veca.inputSize)
        control = CoreControl(coreCounts: Veca.coreCounts, coreCount: Variant.defaultCoreCount)
    }

    /// Runs one frame. Throws what a change of the core count has failed with, once; frames go on at the one before.
    public func run(_ frame: Frame, _ show: Show) async throws -> Shown? {
        guard let picture = Picture(frame) else { return nil }
        if let failure {
            self.failure = nil
            throw failure
        }
        let count = await veca.coreCount
        let start = Self.milliseconds()
        let prediction = try await veca.predict(frame)
        let predicted = Self.milliseconds()
        let after = await veca.coreCount
        if after == count {
            control.observe(at: count, latency: predicted - start, now: predicted / 1000)
        }
        let painting = painter.paint(picture, prediction, show)
        let times = StageTimes(model: predicted - start, paint: Self.milliseconds() - predicted)
        await follow()
        return Shown(painting: painting, coreCount: count, times: times)
    }

    /// Chooses by hand or by a budget. For the first budget it measures what every core count takes on this device.
    public func choose(_ choice: Choice) async throws {
        choices += 1
        let mine = choices
        if case .budget = choice, !control.isMeasured {
            let takes = try await measured()
            control.expect(takes)
            guard mine == choices else { return }  // while it measured, somebody chose anew
        }
        control.choose(choice)
        await follow()
    }

    /// Says how hot the device is, and whether that matters.
    public func set(heat: ProcessInfo.ThermalState, followsHeat: Bool) async {
        (control.heat, control.followsHeat) = (heat, followsHeat)
        await follow()
    }

    /// Loads what the control wants, while frames go on at the old core count.
    private func follow() async {
        let (wanted, loaded) = (control.coreCount, await veca.coreCount)
        if wanted != refused { refused = nil }
        guard change == nil, loaded != wanted, refused == nil else { return }
        change = Task { [veca] in try await veca.use(coreCount: wanted) }
        Task { await finish(wanted) }
    }

    private func finish(_ wanted: Int) async {
        do {
            try await change?.value
        } catch {
            (failure, refused) = (error, wanted)
        }
        change = nil
    }

    private func measured(calls: Int = 5) async throws -> [Int: Double] {
        let blank = try veca.blankFrame()
        var found: [Int: Double] = [:]
        for count in Veca.coreCounts {
            let one = try await Veca(coreCount: count, imageSize: veca.inputSize)
            _ = try await one.predict(prepared: blank)  // the first call prepares
            for _ in 0..<calls {
                let start = Self.milliseconds()
                _ = try await one.predict(prepared: blank)
                found[count] = min(found[count] ?? .infinity, Self.milliseconds() - start)
            }
        }
        return found
    }

    private static func milliseconds() -> Double { Double(DispatchTime.now().uptimeNanoseconds) / 1e6 }
}
